//! Errors of the client: one table from cause to SQLSTATE, message, DETAIL and HINT.

use std::time::Duration;

use infinity_client::{ConnectKind, Error, ImageProblem};
use pgrx::PgSqlErrorCode as Code;

use super::{SqlError, capital};

impl From<Error> for SqlError {
    fn from(error: Error) -> SqlError {
        match error {
            Error::TextTooLong { .. }
            | Error::Image { .. }
            | Error::Rejected { .. }
            | Error::NonFinite { .. }
            | Error::EmptyEmbedding { .. } => of_an_input(error),
            Error::Connect { .. }
            | Error::Lost { .. }
            | Error::TimedOut { .. }
            | Error::Wedged { .. }
            | Error::Redirected { .. }
            | Error::InvalidUrl { .. } => of_the_connection(error),
            Error::UnknownModel { .. }
            | Error::UnsupportedModality { .. }
            | Error::WrongModel { .. }
            | Error::SingleVectorModel { .. }
            | Error::DimensionMismatch { .. } => of_the_model(error),
            _ => of_the_answer(error),
        }
    }
}

fn of_an_input(error: Error) -> SqlError {
    match error {
        Error::TextTooLong { chars, limit, .. } => SqlError::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("text of {chars} characters is too long to embed"),
        )
        .detail(format!("The Infinity server takes at most {limit} characters."))
        .hint("Split the text into passages and embed each."),
        Error::Image { problem, .. } => of_an_image(&problem),
        Error::Rejected { status, message, .. } => SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "the Infinity server refused the input",
        )
        .detail(answered(status, &message)),
        Error::NonFinite { token, .. } => SqlError::new(
            Code::ERRCODE_DATA_EXCEPTION,
            "the Infinity server answered with a NaN or infinite value",
        )
        .detail(format!("It is in token {} of the embedding.", token + 1))
        .hint("The model overflows on this input; serve it with a wider type, such as --dtype float32."),
        _ => SqlError::new(
            Code::ERRCODE_PROTOCOL_VIOLATION,
            "the Infinity server answered with an embedding that has no tokens",
        ),
    }
}

fn of_an_image(problem: &ImageProblem) -> SqlError {
    let (code, hint) = match problem {
        ImageProblem::NotRecognised { .. } => (
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "Pass the bytes of a JPEG, PNG, GIF, WebP, BMP or TIFF file.",
        ),
        ImageProblem::TooManyPixels { .. } => (
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            "Scale the image down, or raise infinity_embed.max_image_pixels.",
        ),
        ImageProblem::TooSmall { .. } | ImageProblem::TooElongated { .. } => (
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "Images are at least 3 x 3 pixels, and no side is more than 200 times the other.",
        ),
        ImageProblem::TooSlow { .. } => (
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            "Scale the images down, raise infinity_embed.timeout, or lower infinity_embed.embed_batch_size.",
        ),
        ImageProblem::Truncated { .. } | ImageProblem::Corrupt { .. } => (
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "Store the whole file. The image was not sent: broken images stop an Infinity server.",
        ),
    };
    SqlError::new(code, "image cannot be embedded")
        .detail(format!("{}.", capital(&problem.to_string())))
        .hint(hint)
}

fn of_the_connection(error: Error) -> SqlError {
    match error {
        Error::InvalidUrl { url, reason } => SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("invalid value for infinity_embed.url: \"{url}\""),
        )
        .detail(format!("{}.", capital(reason)))
        .hint("Set infinity_embed.url to a base URL such as http://localhost:7997."),
        Error::Connect { url, kind, detail, attempts } => SqlError::new(
            Code::ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
            format!("could not connect to the Infinity server at \"{url}\""),
        )
        .detail(format!("{}{}.", capital(&cause(kind, &detail)), after(attempts)))
        .hint(match kind {
            ConnectKind::Tls => "Add the server's certificate authority to those the operating system trusts, or use the right scheme in infinity_embed.url.",
            _ => "Start the server, or set infinity_embed.url to its address.",
        }),
        Error::Lost { url, detail, attempts } => SqlError::new(
            Code::ERRCODE_CONNECTION_FAILURE,
            format!("lost the connection to the Infinity server at \"{url}\""),
        )
        .detail(format!("{}{}.", capital(&detail), after(attempts)))
        .hint("Look into the server's log: it may have been restarted or have run out of memory."),
        Error::TimedOut { url, after: limit, attempts, works } => SqlError::new(
            Code::ERRCODE_CONNECTION_FAILURE,
            format!("no answer from the Infinity server at \"{url}\" within {}", seconds(limit)),
        )
        .detail(match works {
            true => format!("The request was given up{}, and the server works.", after(attempts)),
            false => format!("The request was given up{}.", after(attempts)),
        })
        .hint("Raise infinity_embed.timeout, or lower infinity_embed.embed_batch_size."),
        Error::Wedged { url, after: limit } => SqlError::new(
            Code::ERRCODE_CONNECTION_FAILURE,
            format!("the Infinity server at \"{url}\" is wedged"),
        )
        .detail(format!(
            "It gave no answer within {}; /health answers, but a one-word request does not.",
            seconds(limit)
        ))
        .hint("Restart Infinity; if it is only busy, raise infinity_embed.timeout."),
        Error::Redirected { url, status, location } => SqlError::new(
            Code::ERRCODE_PROTOCOL_VIOLATION,
            format!("\"{url}\" answers with a redirect, which is not followed"),
        )
        .detail(format!(
            "Status {status} points to {}.",
            location.as_deref().map_or("nowhere".to_owned(), |origin| format!("\"{origin}\""))
        ))
        .hint("Set infinity_embed.url to the address that serves Infinity itself."),
        other => SqlError::new(Code::ERRCODE_CONNECTION_FAILURE, other.to_string()),
    }
}

fn of_the_model(error: Error) -> SqlError {
    const LIST: &str = "SELECT * FROM infinity_embed_models() lists the models; set infinity_embed.model_name to one of them.";
    match error {
        Error::UnknownModel { model, message } => SqlError::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("the Infinity server does not serve model \"{model}\""),
        )
        .detail(format!("The server says: {message}"))
        .hint(LIST),
        Error::WrongModel { asked, served } => SqlError::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("the Infinity server does not serve model \"{asked}\""),
        )
        .detail(format!("It serves \"{served}\"."))
        .hint(format!("SET infinity_embed.model_name = '{}', or start Infinity with --served-model-name.", served.replace('\'', "''"))),
        Error::UnsupportedModality { model, modality, message } => SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("model \"{model}\" does not embed {modality}s"),
        )
        .detail(format!("The server says: {message}"))
        .hint(LIST),
        Error::SingleVectorModel { model, dim } => SqlError::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("model \"{model}\" is not a late-interaction model"),
        )
        .detail(format!("It gives one vector of {dim} dimensions per input, not one per token."))
        .hint("Serve a ColBERT, ColPali or ColQwen2 model."),
        Error::DimensionMismatch { model, configured, served } => SqlError::new(
            Code::ERRCODE_DATA_EXCEPTION,
            format!("model \"{model}\" has {served} dimensions, but infinity_embed.hidden_dim is {configured}"),
        )
        .hint(format!("SET infinity_embed.hidden_dim = {served}, or 0 to take the server's.")),
        other => SqlError::new(Code::ERRCODE_UNDEFINED_OBJECT, other.to_string()),
    }
}

fn of_the_answer(error: Error) -> SqlError {
    match error {
        Error::Unauthorized { url, status, message, key_sent } => SqlError::new(
            Code::ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION,
            if key_sent {
                format!("the Infinity server at \"{url}\" refused the API key")
            } else {
                format!("the Infinity server at \"{url}\" asks for an API key")
            },
        )
        .detail(answered(status, &message))
        .hint("Set infinity_embed.api_key_file to a file that holds the server's API key."),
        Error::InvalidApiKey => SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            "the API key has characters that cannot be sent in a header",
        )
        .hint("Use printable ASCII in infinity_embed.api_key or in the API key file."),
        Error::NotFound { url, message } => SqlError::new(
            Code::ERRCODE_UNDEFINED_OBJECT,
            format!("nothing is served at \"{url}\""),
        )
        .detail(answered(404, &message))
        .hint("Check infinity_embed.url, its path prefix above all (infinity_emb --url-prefix)."),
        Error::Refused { url, status, message } => SqlError::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("the Infinity server at \"{url}\" refused the request"),
        )
        .detail(answered(status, &message)),
        Error::Overloaded { url, status, message, attempts, .. } => SqlError::new(
            Code::ERRCODE_INSUFFICIENT_RESOURCES,
            format!("the Infinity server at \"{url}\" is overloaded"),
        )
        .detail(format!("{}{}", answered(status, &message), in_all(attempts)))
        .hint("Try again later, or lower infinity_embed.max_concurrency. A server that stays overloaded without load must be restarted."),
        Error::ServerFailed { url, status, message, attempts } => SqlError::new(
            Code::ERRCODE_SYSTEM_ERROR,
            format!("the Infinity server at \"{url}\" failed"),
        )
        .detail(format!("{}{}", answered(status, &message), in_all(attempts)))
        .hint("Look into the server's log."),
        Error::Malformed { url, reason } => SqlError::new(
            Code::ERRCODE_PROTOCOL_VIOLATION,
            format!("malformed answer from the Infinity server at \"{url}\""),
        )
        .detail(format!("{}.", capital(reason.trim_end_matches('.'))))
        .hint("Check that infinity_embed.url is the address of an Infinity server."),
        Error::ResponseTooLarge { url, limit, bytes } => SqlError::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("answer of the Infinity server at \"{url}\" is too large"),
        )
        .detail(match bytes {
            Some(bytes) => format!("It has {bytes} bytes; {limit} are allowed."),
            None => format!("It has more than the allowed {limit} bytes."),
        })
        .hint("Lower infinity_embed.embed_batch_size, or raise infinity_embed.max_response_size."),
        other => SqlError::new(Code::ERRCODE_INTERNAL_ERROR, other.to_string()),
    }
}

fn answered(status: u16, message: &str) -> String {
    format!("It answered with status {status}: {message}")
}

/// What kind of failure it was, and the system's own words where they say more.
fn cause(kind: ConnectKind, detail: &str) -> String {
    let kind = kind.to_string();
    let detail = detail
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .trim_end_matches('.');
    if detail.to_lowercase().starts_with(&kind.to_lowercase()) || detail.is_empty() {
        kind
    } else {
        format!("{kind}: {detail}")
    }
}

/// `, after 3 attempts` inside a sentence.
fn after(attempts: u32) -> String {
    if attempts > 1 {
        format!(", after {attempts} attempts")
    } else {
        String::new()
    }
}

/// ` (after 3 attempts)` behind somebody else's words.
fn in_all(attempts: u32) -> String {
    if attempts > 1 {
        format!(" (after {attempts} attempts)")
    } else {
        String::new()
    }
}

fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{} s", duration.as_millis() as f64 / 1000.0)
    }
}
