//! The settings `infinity_embed.*`: their definitions, ranges and one snapshot for a call.
//!
//! The only file that reads GUCs. Reading is main-thread business, so the entry points take a
//! [`Config`] here and hand it, as plain data, to the client. What decides where bytes go, or
//! protects the server's memory, is superuser-set.

use std::ffi::{CStr, CString};
use std::time::Duration;

use infinity_client::{Config, Encoding, Secret};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_guard, pg_sys};

use crate::error::SqlError;

/// `infinity_embed.encoding`: how the server writes vectors into its answer.
#[derive(Clone, Copy, PartialEq, Eq, PostgresGucEnum)]
enum WireEncoding {
    #[name = c"base64"]
    Base64,
    #[name = c"float"]
    Float,
}

const URL_NAME: &CStr = c"infinity_embed.url";
const DEFAULT_URL: &CStr = c"http://localhost:7997";
const DEFAULT_MODEL: &CStr = c"michaelfeil/colqwen2-v0.1";
/// Read once, when the library is loaded: the environment of the server (postmaster).
const URL_VARIABLE: &str = "INFINITY_API_URL";
/// A key file holds one line; anything longer is some other file.
const MAX_KEY_FILE_BYTES: u64 = 8 * 1024;

const MAX_DIM: i32 = 16_000;
const MAX_TIMEOUT_SECONDS: f64 = 86_400.0;
const MIN_TIMEOUT_SECONDS: f64 = 0.001;
const MAX_RETRIES: i32 = 100;
const MAX_BATCH_SIZE: i32 = 2_048;
const MAX_CONCURRENCY: i32 = 64;
const MAX_ATTEMPTS: i32 = 1_000;
/// Bounds of the time that a worker gives a table's own expressions and triggers.
const SHORTEST_STATEMENT: Duration = Duration::from_secs(1);
const LONGEST_STATEMENT: Duration = Duration::from_secs(10);
const MAX_WORKERS: i32 = 64;
const MAX_CACHE_KB: i32 = 1024 * 1024;
/// Infinity's own image library refuses more.
const MAX_IMAGE_PIXELS: i32 = 178_956_970;
const MAX_RESPONSE_KB: i32 = 1024 * 1024;

static URL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(DEFAULT_URL));
static MODEL_NAME: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(DEFAULT_MODEL));
static API_KEY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static API_KEY_FILE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
static ENCODING: GucSetting<WireEncoding> = GucSetting::<WireEncoding>::new(WireEncoding::Base64);
static HIDDEN_DIM: GucSetting<i32> = GucSetting::<i32>::new(128);
static TIMEOUT: GucSetting<f64> = GucSetting::<f64>::new(60.0);
static RETRIES: GucSetting<i32> = GucSetting::<i32>::new(3);
static EMBED_BATCH_SIZE: GucSetting<i32> = GucSetting::<i32>::new(10);
static CONCURRENCY: GucSetting<i32> = GucSetting::<i32>::new(4);
static NORMALIZE: GucSetting<bool> = GucSetting::<bool>::new(false);
static ATTEMPTS: GucSetting<i32> = GucSetting::<i32>::new(5);
static SEARCH_EFFORT: GucSetting<f64> = GucSetting::<f64>::new(3.0);
static WORKER: GucSetting<bool> = GucSetting::<bool>::new(true);
static WORKERS: GucSetting<i32> = GucSetting::<i32>::new(1);
static CACHE_SIZE_KB: GucSetting<i32> = GucSetting::<i32>::new(4 * 1024);
static IMAGE_PIXELS: GucSetting<i32> = GucSetting::<i32>::new(40_000_000);
static RESPONSE_SIZE_KB: GucSetting<i32> = GucSetting::<i32>::new(256 * 1024);

/// What distinguishes the embedding of one text from another's: part of the cache's key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) url: String,
    pub(crate) model: String,
    pub(crate) dim: Option<usize>,
    pub(crate) normalize: bool,
}

/// Defines every setting and reserves the prefix. Called from `_PG_init`.
pub(crate) fn define() {
    define_connection();
    define_model();
    define_limits();
    define_queue();
    define_search();
    #[cfg(any(feature = "pg15", feature = "pg16", feature = "pg17", feature = "pg18"))]
    // SAFETY: called while the library is loaded, with a NUL-terminated literal.
    unsafe {
        pg_sys::MarkGUCPrefixReserved(c"infinity_embed".as_ptr());
    }
}

fn define_connection() {
    define_url();
    // SAFETY: the show hook returns a static string and cannot panic.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            c"infinity_embed.api_key",
            c"API key sent to the Infinity server as a bearer token.",
            c"Prefer infinity_embed.api_key_file: a key in ALTER DATABASE or ALTER ROLE SET can be read by everyone.",
            &API_KEY,
            GucContext::Suset,
            GucFlags::SUPERUSER_ONLY | GucFlags::NO_SHOW_ALL,
            None,
            None,
            Some(show_api_key),
        );
    }
    GucRegistry::define_string_guc(
        c"infinity_embed.api_key_file",
        c"File that holds the API key for the Infinity server.",
        c"Read by the PostgreSQL server at every call; relative to the data directory. Ignored when infinity_embed.api_key is set.",
        &API_KEY_FILE,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    );
    GucRegistry::define_float_guc(
        c"infinity_embed.timeout",
        c"Longest time for one request to the Infinity server, its retries included.",
        c"In seconds where no unit is given. statement_timeout bounds the whole statement.",
        &TIMEOUT,
        MIN_TIMEOUT_SECONDS,
        MAX_TIMEOUT_SECONDS,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"infinity_embed.max_retries",
        c"How often a request that failed for a passing reason is repeated.",
        c"Counted after the first attempt; 0 never repeats. Wrong input, keys and models are never retried.",
        &RETRIES,
        0,
        MAX_RETRIES,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"infinity_embed.max_concurrency",
        c"Most requests that one backend has in flight at the Infinity server.",
        c"",
        &CONCURRENCY,
        1,
        MAX_CONCURRENCY,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// The URL, and what becomes of one given before the library was loaded.
///
/// PostgreSQL refuses it where the role may not set it. In the options of a connection it has then already kept the
/// value of ALTER DATABASE out, and the default would stand: an address that nobody chose, to which the key would go.
/// No address at all is better.
fn define_url() {
    let setting = url_setting();
    let default = text(setting);
    // SAFETY: a NUL-terminated name; the result is NULL, or a string that lives until the setting changes, copied here.
    let given = unsafe {
        let value = pg_sys::GetConfigOption(URL_NAME.as_ptr(), true, false);
        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().trim().to_owned())
    };
    GucRegistry::define_string_guc(
        URL_NAME,
        c"Base URL of the Infinity server.",
        c"http or https, with a path prefix if the server has one. Its default is the environment variable INFINITY_API_URL of the PostgreSQL server where that is set.",
        setting,
        GucContext::Suset,
        GucFlags::default(),
    );
    let found = text(setting);
    if found == default && given.is_some_and(|given| given != found) {
        // SAFETY: a setting just defined. As an override it is what RESET and DISCARD go back to.
        unsafe {
            pg_sys::SetConfigOption(
                URL_NAME.as_ptr(),
                c"".as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

fn define_model() {
    GucRegistry::define_string_guc(
        c"infinity_embed.model_name",
        c"Model that embeds where a function's model argument is NULL.",
        c"The name under which the Infinity server serves it; infinity_embed_models() lists them.",
        &MODEL_NAME,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"infinity_embed.encoding",
        c"How the Infinity server writes vectors into its answers.",
        c"base64 is about four times smaller and seven times faster than float; the vectors are the same.",
        &ENCODING,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"infinity_embed.hidden_dim",
        c"Dimension that the model's vectors must have.",
        c"0 takes the dimension from the Infinity server.",
        &HIDDEN_DIM,
        0,
        MAX_DIM,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"infinity_embed.embed_batch_size",
        c"Most inputs sent to the Infinity server in one request.",
        c"A request carries at most 32 images in any case.",
        &EMBED_BATCH_SIZE,
        1,
        MAX_BATCH_SIZE,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"infinity_embed.normalize",
        c"Scale every token vector to length one.",
        c"ColBERT models come unnormalised out of Infinity; ColPali and ColQwen2 normalise themselves.",
        &NORMALIZE,
        GucContext::Userset,
        GucFlags::default(),
    );
}

fn define_limits() {
    GucRegistry::define_int_guc(
        c"infinity_embed.cache_size",
        c"Memory per backend that keeps embeddings of recent single texts.",
        c"Saves a request per row in ORDER BY embedding @# infinity_embed_text('...'). 0 turns it off.",
        &CACHE_SIZE_KB,
        0,
        MAX_CACHE_KB,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
    GucRegistry::define_int_guc(
        c"infinity_embed.max_image_pixels",
        c"Most pixels (width times height) of an image that is decoded.",
        c"",
        &IMAGE_PIXELS,
        1,
        MAX_IMAGE_PIXELS,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"infinity_embed.max_response_size",
        c"Largest answer of the Infinity server that is read.",
        c"",
        &RESPONSE_SIZE_KB,
        1,
        MAX_RESPONSE_KB,
        GucContext::Suset,
        GucFlags::UNIT_KB,
    );
}

fn define_queue() {
    GucRegistry::define_bool_guc(
        c"infinity_embed.worker",
        c"Start a background worker for queued rows when a transaction that queued some commits.",
        c"Turn it off where CALL infinity_embed.process_queue() is run instead. A running worker then leaves after its batch.",
        &WORKER,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"infinity_embed.max_workers",
        c"Most background workers that share the queue of a database.",
        c"One starts the others while more than a batch waits. Each needs a slot of max_worker_processes.",
        &WORKERS,
        1,
        MAX_WORKERS,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"infinity_embed.max_attempts",
        c"How often a queued row is tried that cannot be embedded.",
        c"Then its job is dead until infinity_embed.retry_dead() or a change of the row. An outage of the Infinity server counts for no row.",
        &ATTEMPTS,
        1,
        MAX_ATTEMPTS,
        GucContext::Suset,
        GucFlags::default(),
    );
}

fn define_search() {
    GucRegistry::define_float_guc(
        c"infinity_embed.search_effort",
        c"How thoroughly a maxsim index is searched.",
        c"Standard deviations by which estimates may be off before a document is passed over. More finds more of the best rows and takes longer; Infinity scores every document.",
        &SEARCH_EFFORT,
        0.0,
        f64::INFINITY,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// How many standard deviations a search of an index allows for.
pub(crate) fn search_effort() -> f64 {
    SEARCH_EFFORT.get()
}

/// The URL's setting, whose boot value is the environment's where it has one.
fn url_setting() -> &'static GucSetting<Option<CString>> {
    let from_environment = std::env::var(URL_VARIABLE)
        .ok()
        .map(|url| url.trim().to_owned())
        .filter(|url| !url.is_empty())
        .and_then(|url| CString::new(url).ok());
    if let Some(url) = from_environment {
        // SAFETY: _PG_init runs once on the main thread before the variable is defined, and the
        // leaked string lives as long as the process.
        unsafe { *URL.as_ptr() = CString::into_raw(url) };
    }
    &URL
}

#[pg_guard]
unsafe extern "C-unwind" fn show_api_key() -> *const std::ffi::c_char {
    let is_set = API_KEY.get().is_some_and(|key| !key.is_empty());
    if is_set { c"********" } else { c"" }.as_ptr()
}

fn text(setting: &'static GucSetting<Option<CString>>) -> String {
    setting
        .get()
        .map(|value| value.to_string_lossy().trim().to_owned())
        .unwrap_or_default()
}

/// What identifies the embeddings that a call with this `model` argument would make.
///
/// # Errors
/// 55000 where a setting that is needed is empty, 22023 where the argument is.
pub(crate) fn identity(model: Option<&str>) -> Result<Identity, SqlError> {
    let url = text(&URL);
    if url.is_empty() {
        return Err(SqlError::setting_missing(
            "infinity_embed.url",
            "http://localhost:7997",
        ));
    }
    if model.is_some_and(|name| name.trim().is_empty()) {
        return Err(SqlError::model_empty());
    }
    let model = model.map_or_else(|| text(&MODEL_NAME), |name| name.trim().to_owned());
    if model.is_empty() {
        return Err(SqlError::setting_missing(
            "infinity_embed.model_name",
            "michaelfeil/colqwen2-v0.1",
        ));
    }
    let dim = usize::try_from(HIDDEN_DIM.get())
        .ok()
        .filter(|&dim| dim > 0);
    Ok(Identity {
        url,
        model,
        dim,
        normalize: NORMALIZE.get(),
    })
}

/// The client's configuration for one call; reads the key file where one is set.
///
/// # Errors
/// What [`identity`] and the key file give.
pub(crate) fn config(identity: Identity) -> Result<Config, SqlError> {
    Ok(Config {
        url: identity.url,
        model: identity.model,
        api_key: api_key()?,
        encoding: match ENCODING.get() {
            WireEncoding::Base64 => Encoding::Base64,
            WireEncoding::Float => Encoding::Float,
        },
        dim: identity.dim,
        timeout: timeout(),
        max_retries: unsigned(&RETRIES) as u32,
        batch_size: unsigned(&EMBED_BATCH_SIZE),
        max_concurrency: unsigned(&CONCURRENCY),
        normalize: identity.normalize,
        max_image_pixels: unsigned(&IMAGE_PIXELS) as u64,
        max_response_bytes: unsigned(&RESPONSE_SIZE_KB) as u64 * 1024,
    })
}

/// Whether writers start a worker for what they have queued.
pub(crate) fn wants_worker() -> bool {
    WORKER.get()
}

/// Most workers of a database.
pub(crate) fn max_workers() -> u32 {
    unsigned(&WORKERS) as u32
}

/// Attempts after which a queued row is given up.
pub(crate) fn max_attempts() -> i32 {
    ATTEMPTS.get()
}

/// Longest time for one request with its retries.
pub(crate) fn timeout() -> Duration {
    Duration::from_secs_f64(TIMEOUT.get())
}

/// Longest time that a table's own expressions and triggers may take in a worker.
pub(crate) fn statement_limit() -> Duration {
    timeout().clamp(SHORTEST_STATEMENT, LONGEST_STATEMENT)
}

/// Bytes that the cache of query embeddings may take; 0 is off.
pub(crate) fn cache_size_bytes() -> usize {
    unsigned(&CACHE_SIZE_KB) * 1024
}

/// Inputs that one round of requests takes: a batch on each connection.
pub(crate) fn inputs_per_round() -> usize {
    unsigned(&EMBED_BATCH_SIZE) * unsigned(&CONCURRENCY)
}

/// A setting whose range PostgreSQL has already held to be non-negative.
fn unsigned(setting: &'static GucSetting<i32>) -> usize {
    setting.get().max(0) as usize
}

fn api_key() -> Result<Option<Secret>, SqlError> {
    let key = text(&API_KEY);
    if !key.is_empty() {
        return Ok(Some(Secret::new(key)));
    }
    let path = text(&API_KEY_FILE);
    if path.is_empty() {
        return Ok(None);
    }
    read_key_file(&path).map(Some)
}

/// The key in the file, without surrounding white space.
fn read_key_file(path: &str) -> Result<Secret, SqlError> {
    let facts = std::fs::metadata(path).map_err(|error| SqlError::key_file(path, &error))?;
    if !facts.is_file() {
        return Err(SqlError::key_file_content(path, "is not a regular file"));
    }
    if facts.len() > MAX_KEY_FILE_BYTES {
        let problem = format!(
            "has {} bytes, at most {MAX_KEY_FILE_BYTES} are read",
            facts.len()
        );
        return Err(SqlError::key_file_content(path, problem));
    }
    let content = std::fs::read(path).map_err(|error| SqlError::key_file(path, &error))?;
    let key = std::str::from_utf8(&content)
        .map(str::trim)
        .unwrap_or_default();
    if key.is_empty() {
        return Err(SqlError::key_file_content(path, "holds no key"));
    }
    Ok(Secret::new(key))
}
