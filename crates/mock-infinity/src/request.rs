//! Reads an embedding request and refuses it in the words of the true server's validation library.
//!
//! A refusal (422) echoes the offending input whole, be it 240 KB; nulls are refused where a field left out is fine; fields
//! that are not known are ignored.

use serde_json::{Value, json};

/// Most texts in a request.
const MAX_TEXTS: usize = 2048;
/// Most images in a request.
const MAX_IMAGES: usize = 32;
/// Most characters in a text, counted after stripping.
const MAX_CHARACTERS: usize = 122_880;

const TEXT_LIST: &str = "list[constrained-str]";
const TEXT: &str = "constrained-str";
const URI_LIST: &str = "list[union[function-after[validate(), str],function-wrap[wrap_val()]]]";
const URI: &str = "function-after[validate(), str]";
const URL: &str = "function-wrap[wrap_val()]";

/// What the inputs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Modality {
    Text,
    Image,
    Audio,
}

impl Modality {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Audio => "audio",
        }
    }
}

/// A valid request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) model: String,
    pub(crate) modality: Modality,
    /// Stripped of white space.
    pub(crate) inputs: Vec<String>,
    pub(crate) base64: bool,
    /// 0 asks for nothing.
    pub(crate) dimensions: i64,
}

/// Validates a body. `forced` is the modality of an endpoint that serves one only.
///
/// # Errors
/// The body of the 422.
pub(crate) fn validate(body: &Value, forced: Option<Modality>) -> Result<Request, Value> {
    let modality = match forced {
        Some(modality) => modality,
        None => modality(body)?,
    };
    let path = Path(match forced {
        Some(_) => vec![json!("body")],
        None => vec![json!("body"), json!(modality.name())],
    });
    let Some(fields) = body.as_object() else {
        return Err(refuse(vec![json!({
            "type": "model_attributes_type", "loc": path.0,
            "msg": "Input should be a valid dictionary or object to extract fields from", "input": body,
        })]));
    };
    let mut wrong = Vec::new();
    let model = match fields.get("model") {
        None => "default/not-specified".to_owned(),
        Some(Value::String(model)) => model.clone(),
        Some(other) => {
            wrong.push(path.to("model").not_a_string(other));
            String::new()
        }
    };
    let base64 = match fields.get("encoding_format").map(Value::as_str) {
        None | Some(Some("float")) => false,
        Some(Some("base64")) => true,
        Some(_) => {
            wrong.push(json!({
                "type": "enum", "loc": path.to("encoding_format").0, "msg": "Input should be 'float' or 'base64'",
                "input": fields["encoding_format"], "ctx": {"expected": "'float' or 'base64'"},
            }));
            false
        }
    };
    let dimensions = match fields.get("dimensions").map(Value::as_i64) {
        None => 0,
        Some(Some(dimensions)) => dimensions,
        Some(None) => {
            wrong.push(json!({
                "type": "int_type", "loc": path.to("dimensions").0, "msg": "Input should be a valid integer",
                "input": fields["dimensions"],
            }));
            0
        }
    };
    let inputs = match fields.get("input") {
        None => {
            wrong.push(json!({
                "type": "missing", "loc": path.to("input").0, "msg": "Field required", "input": body,
            }));
            Vec::new()
        }
        Some(input) if modality == Modality::Text => texts(input, &path.to("input"), &mut wrong),
        Some(input) => uris(input, &path.to("input"), &mut wrong),
    };
    if !wrong.is_empty() {
        return Err(refuse(wrong));
    }
    Ok(Request {
        model,
        modality,
        inputs,
        base64,
        dimensions,
    })
}

fn refuse(details: Vec<Value>) -> Value {
    json!({"detail": details})
}

fn modality(body: &Value) -> Result<Modality, Value> {
    match body.get("modality") {
        None => Ok(Modality::Text),
        Some(Value::String(name)) => match name.as_str() {
            "text" => Ok(Modality::Text),
            "image" => Ok(Modality::Image),
            "audio" => Ok(Modality::Audio),
            _ => Err(refuse(vec![json!({
                "type": "union_tag_invalid", "loc": ["body"],
                "msg": format!(
                    "Input tag '{name}' found using get_modality() does not match any of the expected tags: 'text', 'audio', 'image'"
                ),
                "input": body,
                "ctx": {"discriminator": "get_modality()", "tag": name, "expected_tags": "'text', 'audio', 'image'"},
            })])),
        },
        Some(_) => Err(refuse(vec![json!({
            "type": "union_tag_not_found", "loc": ["body"],
            "msg": "Unable to extract tag using discriminator get_modality()",
            "input": body, "ctx": {"discriminator": "get_modality()"},
        })])),
    }
}

/// Where in the body something is wrong.
#[derive(Clone)]
struct Path(Vec<Value>);

impl Path {
    fn to(&self, step: impl Into<Value>) -> Self {
        let mut path = self.clone();
        path.0.push(step.into());
        path
    }

    fn not_a_string(&self, input: &Value) -> Value {
        json!({
            "type": "string_type", "loc": self.0, "msg": "Input should be a valid string", "input": input,
        })
    }

    fn not_a_list(&self, input: &Value) -> Value {
        json!({
            "type": "list_type", "loc": self.0, "msg": "Input should be a valid list", "input": input,
        })
    }

    fn too_long(&self, input: &Value) -> Value {
        json!({
            "type": "string_too_long", "loc": self.0,
            "msg": format!("String should have at most {MAX_CHARACTERS} characters"),
            "input": input, "ctx": {"max_length": MAX_CHARACTERS},
        })
    }

    fn not_a_url(&self, input: &Value) -> Value {
        json!({
            "type": "url_type", "loc": self.0, "msg": "URL input should be a string or URL", "input": input,
        })
    }

    /// The complaint about a list of the wrong length, if it is wrong.
    fn wrong_length(&self, list: &[Value], input: &Value, most: usize) -> Option<Value> {
        let actual = list.len();
        if actual == 0 {
            return Some(json!({
                "type": "too_short", "loc": self.0,
                "msg": "List should have at least 1 item after validation, not 0", "input": input,
                "ctx": {"field_type": "List", "min_length": 1, "actual_length": 0},
            }));
        }
        (actual > most).then(|| {
            json!({
                "type": "too_long", "loc": self.0,
                "msg": format!("List should have at most {most} items after validation, not {actual}"),
                "input": input, "ctx": {"field_type": "List", "max_length": most, "actual_length": actual},
            })
        })
    }
}

/// A text or a list of texts; complaints come twice, once for each of the two forms.
fn texts(input: &Value, path: &Path, wrong: &mut Vec<Value>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut taken = Vec::new();
    if let Value::Array(list) = input {
        let path_of_list = path.to(TEXT_LIST);
        match path_of_list.wrong_length(list, input, MAX_TEXTS) {
            Some(complaint) => complaints.push(complaint),
            None => {
                for (place, value) in list.iter().enumerate() {
                    match text(value, || path_of_list.to(place)) {
                        Ok(text) => taken.push(text),
                        Err(complaint) => complaints.push(complaint),
                    }
                }
            }
        }
        if !complaints.is_empty() {
            complaints.push(path.to(TEXT).not_a_string(input));
        }
    } else {
        match text(input, || path.to(TEXT)) {
            Ok(text) => taken.push(text),
            Err(complaint) => complaints.extend([path.to(TEXT_LIST).not_a_list(input), complaint]),
        }
    }
    wrong.append(&mut complaints);
    taken
}

fn text(value: &Value, path: impl FnOnce() -> Path) -> Result<String, Value> {
    match value.as_str().map(str::trim) {
        None => Err(path().not_a_string(value)),
        Some(text) if text.len() > MAX_CHARACTERS && text.chars().count() > MAX_CHARACTERS => {
            Err(path().too_long(value))
        }
        Some(text) => Ok(text.to_owned()),
    }
}

/// A data URI or http(s) URL, or a list of them.
fn uris(input: &Value, path: &Path, wrong: &mut Vec<Value>) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut taken = Vec::new();
    if let Value::Array(list) = input {
        let path_of_list = path.to(URI_LIST);
        match path_of_list.wrong_length(list, input, MAX_IMAGES) {
            Some(complaint) => complaints.push(complaint),
            None => {
                for (place, value) in list.iter().enumerate() {
                    match uri(value, || path_of_list.to(place)) {
                        Ok(uri) => taken.push(uri),
                        Err(both) => complaints.extend(both),
                    }
                }
            }
        }
        if !complaints.is_empty() {
            complaints.push(path.to(URI).not_a_string(input));
            complaints.push(path.to(URL).not_a_url(input));
        }
    } else {
        match uri(input, || path.clone()) {
            Ok(uri) => taken.push(uri),
            Err(both) => {
                complaints.push(path.to(URI_LIST).not_a_list(input));
                complaints.extend(both);
            }
        }
    }
    wrong.append(&mut complaints);
    taken
}

/// One image's address; refused once as a data URI and once as a URL.
fn uri(value: &Value, path: impl FnOnce() -> Path) -> Result<String, Vec<Value>> {
    let Some(address) = value.as_str() else {
        let path = path();
        return Err(vec![
            path.to(URI).not_a_string(value),
            path.to(URL).not_a_url(value),
        ]);
    };
    let scheme = address.split_once("://").map(|(scheme, _)| scheme);
    let data = address.starts_with("data:") && address.contains(',');
    if data || matches!(scheme, Some("http" | "https")) {
        return Ok(address.to_owned());
    }
    let path = path();
    let not_data = json!({
        "type": "value_error", "loc": path.to(URI).0,
        "msg": format!("Value error, Not a valid data URI: DataURI({address})"),
        "input": value, "ctx": {"error": {}},
    });
    let not_url = match scheme {
        Some(_) => json!({
            "type": "url_scheme", "loc": path.to(URL).0, "msg": "URL scheme should be 'http' or 'https'",
            "input": value, "ctx": {"expected_schemes": "'http' or 'https'"},
        }),
        None => json!({
            "type": "url_parsing", "loc": path.to(URL).0,
            "msg": "Input should be a valid URL, relative URL without a base",
            "input": value, "ctx": {"error": "relative URL without a base"},
        }),
    };
    Err(vec![not_data, not_url])
}
