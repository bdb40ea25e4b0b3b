//! Every body a real server was recorded to answer, read by this client, and every image it was recorded to die of.
//!
//! The captures lie outside the repository; without them these tests say so and pass.

use std::path::PathBuf;

use base64::Engine;
use infinity_client::{BlockingWait, Client, Config, Encoding, Error, Outcome};
use mock_infinity::Model;
use serde_json::Value;

use crate::scripted::{Reaction, Scripted, reply};
use crate::{config, serve};

struct Capture {
    name: String,
    path: String,
    status: Option<u16>,
    content_type: String,
    request: Value,
    response: Vec<u8>,
}

fn captures() -> Vec<Capture> {
    let shared = std::env::var_os("INFINITY_EMBED_SHARED").map(PathBuf::from);
    let shared =
        shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"));
    let Ok(entries) = std::fs::read_dir(shared.join("infinity/captures")) else {
        println!("skipped: no captures at {}", shared.display());
        return Vec::new();
    };
    let mut captures: Vec<Capture> = entries
        .flatten()
        .filter_map(|entry| capture(&entry.path()))
        .collect();
    captures.sort_by(|left, right| left.name.cmp(&right.name));
    assert!(captures.len() > 100, "{} captures", captures.len());
    captures
}

fn capture(meta: &std::path::Path) -> Option<Capture> {
    let name = meta
        .file_name()?
        .to_str()?
        .strip_suffix(".meta.json")?
        .to_owned();
    let beside = |kind: &str| {
        std::fs::read(meta.with_file_name(format!("{name}.{kind}.json"))).unwrap_or_default()
    };
    let meta: Value = serde_json::from_slice(&std::fs::read(meta).ok()?).ok()?;
    Some(Capture {
        path: meta["request"]["path"].as_str()?.to_owned(),
        status: meta["response"]["status"]
            .as_u64()
            .map(|status| status as u16),
        content_type: meta["response"]["headers"]["content-type"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        request: serde_json::from_slice(&beside("req")).unwrap_or(Value::Null),
        response: beside("resp"),
        name,
    })
}

impl Capture {
    /// What the client makes of the recorded answer, when it stands in the place of the server.
    fn replay(&self) -> Result<Vec<Outcome>, Error> {
        let inputs = self.request["input"]
            .as_array()
            .map_or(1, |inputs| inputs.len().max(1));
        let model = self.request["model"]
            .as_str()
            .unwrap_or("default/not-specified")
            .to_owned();
        let dim = if model.contains("minilm") && !model.contains("lite") {
            384
        } else {
            128
        };
        let row = vec!["0.5"; dim].join(",");
        let row = if model == "minilm-plain" {
            row
        } else {
            format!("[{row}]")
        };
        let probe = format!(r#"{{"data":[{{"embedding":[{row}],"index":0}}],"model":"{model}"}}"#);
        let answer = reply(self.status.unwrap(), &self.content_type, &self.response);
        let server = Scripted::start(move |request, _| match request.is_probe() {
            true => Reaction::Send(reply(200, "application/json", &probe)),
            false => Reaction::Send(answer.clone()),
        });
        let encoding = match self.request["encoding_format"].as_str() {
            Some("base64") => Encoding::Base64,
            _ => Encoding::Float,
        };
        let config = Config {
            model,
            encoding,
            max_retries: 0,
            batch_size: 3000,
            ..config(&server.url)
        };
        Client::new().embed_texts(&config, vec![String::from("x"); inputs], &mut BlockingWait)
    }

    /// Whether the outcome is the one this capture must have.
    fn is_right(&self, result: &Result<Vec<Outcome>, Error>) -> bool {
        let first = result.as_ref().ok().and_then(|outcomes| outcomes.first());
        let name = self.name.as_str();
        match self.status.unwrap() {
            200 if name.starts_with("dbg_empty") => {
                matches!(first, Some(Err(Error::EmptyEmbedding { index: 0 })))
            }
            200 if ["nan", "inf", "ninf"]
                .iter()
                .any(|kind| name.starts_with(&format!("dbg_{kind}_"))) =>
            {
                matches!(first, Some(Err(Error::NonFinite { index: 0, .. })))
            }
            // A model name that a server of one model does not check, or none at all.
            200 if matches!(name, "err_bad_model" | "err_no_model") => {
                matches!(result, Err(Error::WrongModel { .. }))
            }
            200 if name.starts_with("single_vector") => {
                matches!(result, Err(Error::SingleVectorModel { .. }))
            }
            200 => match result {
                Ok(outcomes) => outcomes.iter().all(|outcome| {
                    outcome.as_ref().is_ok_and(|rows| {
                        let whole = rows.values.len() == rows.tokens * rows.dim && rows.tokens > 0;
                        whole
                            && rows
                                .values
                                .chunks(rows.dim)
                                .all(|row| row.iter().any(|value| *value != 0.0))
                    })
                }),
                Err(_) => false,
            },
            400 if name.contains("model_multi") => {
                matches!(result, Err(Error::UnknownModel { .. }))
            }
            400 if String::from_utf8_lossy(&self.response).contains("ModelNotDeployedError") => {
                matches!(result, Err(Error::UnsupportedModality { .. }))
            }
            400 | 422 => matches!(first, Some(Err(Error::Rejected { .. }))),
            401 => matches!(result, Err(Error::Unauthorized { status: 401, .. })),
            404 => matches!(result, Err(Error::NotFound { .. })),
            405 => matches!(result, Err(Error::Refused { status: 405, .. })),
            307 => matches!(result, Err(Error::Redirected { status: 307, .. })),
            // The scripted server embeds a word well, so the input is to blame.
            500 => matches!(first, Some(Err(Error::ServerFailed { status: 500, .. }))),
            _ => false,
        }
    }
}

#[test]
fn every_recorded_answer_gets_the_right_verdict() {
    let mut seen = 0;
    for capture in captures() {
        if !capture.path.contains("/embeddings") || capture.status.is_none() {
            continue;
        }
        let result = capture.replay();
        let shown = result.as_ref().map(|outcomes| {
            outcomes
                .iter()
                .map(|o| o.as_ref().map(|m| m.tokens))
                .collect::<Vec<_>>()
        });
        assert!(
            capture.is_right(&result),
            "{} ({:?}): {shown:?}",
            capture.name,
            capture.status
        );
        let longest = 700;
        if let Err(error) = &result {
            assert!(error.to_string().len() < longest, "{}", capture.name);
        }
        seen += 1;
    }
    println!("{seen} recorded answers read");
}

#[test]
fn recorded_base64_and_float_answers_to_the_same_inputs_agree() {
    let captures = captures();
    let find = |name: &str| captures.iter().find(|capture| capture.name == name);
    let pairs = [
        ("text_base64_batch3", "text_float_batch3"),
        ("text_base64_1", "text_float_1"),
        ("lite_text_base64_batch3", "lite_text_float_batch3"),
        ("text_on_colqwen2_batch3", "text_on_colqwen2_batch3_float"),
        ("image_datauri_base64", "image_datauri_float"),
    ];
    for (base64, float) in pairs {
        let (Some(base64), Some(float)) = (find(base64), find(float)) else {
            continue;
        };
        // A single input may have been sent without its list.
        let inputs =
            |capture: &Capture| capture.request["input"].to_string().replace(['[', ']'], "");
        assert_eq!(inputs(base64), inputs(float));
        for (left, right) in base64
            .replay()
            .unwrap()
            .iter()
            .zip(&float.replay().unwrap())
        {
            let (left, right) = (left.as_ref().unwrap(), right.as_ref().unwrap());
            assert_eq!(
                (left.tokens, left.dim),
                (right.tokens, right.dim),
                "{}",
                base64.name
            );
            let furthest = left
                .values
                .iter()
                .zip(&right.values)
                .map(|(l, r)| (l - r).abs())
                .fold(0.0, f32::max);
            assert!(furthest < 2e-5, "{}: {furthest}", base64.name);
        }
    }
}

#[test]
fn the_list_of_models_of_a_real_server_is_read() {
    let captures = captures();
    for name in ["models", "image_models", "lite_models"] {
        let Some(capture) = captures.iter().find(|capture| capture.name == name) else {
            continue;
        };
        let body = reply(200, &capture.content_type, &capture.response);
        let server = Scripted::start(move |_, _| Reaction::Send(body.clone()));
        let models = Client::new()
            .models(&config(&server.url), &mut BlockingWait)
            .unwrap();
        assert!(
            models.len() == 1 && models[0].capabilities.contains(&String::from("embed")),
            "{models:?}"
        );
        assert!(models[0].batch_size > 0 && !models[0].backend.is_empty());
    }
}

#[test]
fn images_that_killed_a_real_server_are_refused_and_the_others_are_embedded() {
    let server = serve(Model::colqwen2);
    let client = Client::new();
    for capture in captures() {
        let image = capture.request["input"][0]
            .as_str()
            .and_then(|input| input.split_once(";base64,"))
            .map(|(_, b)| b);
        let Some(image) =
            image.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
        else {
            continue;
        };
        let dies = ["poison_", "colpali_ratio"]
            .iter()
            .any(|kind| capture.name.starts_with(kind));
        let good = [
            "image_fmt_",
            "image_mode_",
            "image_datauri_",
            "image_no_mime",
            "image_wrong_mime",
            "lite_image",
        ];
        let good = good.iter().any(|kind| capture.name.starts_with(kind));
        // Recorded among the poison, but harmless, and too large for an unoptimised decoder.
        if !(dies || good) || capture.name == "poison_huge_white" {
            continue;
        }
        server.clear_requests();
        let outcomes = client
            .embed_images(&config(&server.url()), vec![image], &mut BlockingWait)
            .unwrap();
        match &outcomes[0] {
            Ok(rows) => assert!(good && rows.tokens > 0, "{} was sent", capture.name),
            Err(Error::Image { problem, .. }) => {
                assert!(!good, "{}: {problem}", capture.name);
                let sent = server
                    .requests()
                    .iter()
                    .any(|request| request.modality.as_deref() == Some("image"));
                assert!(!sent, "{}", capture.name);
                println!("{}: {problem}", capture.name);
            }
            other => panic!("{}: {other:?}", capture.name),
        }
    }
}
