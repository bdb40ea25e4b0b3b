//! The server's base URL, checked once and taken apart into the addresses the client calls.
//!
//! Not obvious: `/health` sits at the origin's root, outside the path prefix (and outside authentication), while
//! `/embeddings` and `/models` sit under the prefix.

use reqwest::Url;

use crate::Error;

/// Where to call. The base may be shown: it has no credentials and no query.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// As shown in errors: scheme, host, port, prefix; no trailing slash.
    pub(crate) base: String,
    /// POST inputs here.
    pub(crate) embeddings: Url,
    /// GET the list of models here.
    pub(crate) models: Url,
    /// GET here, without authentication.
    pub(crate) health: Url,
}

impl Endpoint {
    /// Takes a base URL apart.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`] when it is no http(s) URL with a host, or carries credentials, a query or a fragment.
    pub(crate) fn parse(text: &str) -> Result<Endpoint, Error> {
        let invalid = |reason| Error::InvalidUrl {
            url: without_credentials(text),
            reason,
        };
        let url = Url::parse(text.trim()).map_err(|error| invalid(reason(error)))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("the scheme must be http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid(
                "it must not carry a user name or password; use the API key setting",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it must not carry a query or fragment"));
        }
        let prefix = url.path().trim_end_matches('/').to_owned();
        let at = |path: &str| {
            let mut target = url.clone();
            target.set_path(path);
            target
        };
        let base = at(&prefix).as_str().trim_end_matches('/').to_owned();
        Ok(Endpoint {
            base,
            embeddings: at(&format!("{prefix}/embeddings")),
            models: at(&format!("{prefix}/models")),
            health: at("/health"),
        })
    }
}

/// Scheme, host and port of a URL that somebody else wrote; a relative one keeps only its path.
pub(crate) fn origin_of(location: &str) -> String {
    match Url::parse(location) {
        Ok(url) if url.has_host() => url.origin().ascii_serialization(),
        _ => crate::error::one_line(location.split(['?', '#']).next().unwrap_or_default()),
    }
}

/// The parser's verdict in our words (its own type stays out of the errors).
fn reason(error: impl std::fmt::Display) -> &'static str {
    match error.to_string().as_str() {
        "empty host" => "it has no host",
        "invalid port number" => "its port is not a number up to 65535",
        "relative URL without a base" => "it must begin with http:// or https://",
        _ => "it cannot be parsed",
    }
}

/// What may be shown of text that did not pass: everything before the last `@` of the authority is left out.
fn without_credentials(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // A password may hold an unescaped slash: then the @ stands after it, and nothing is safe to show.
    if path.contains('@') {
        return String::from("…");
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let separator = if scheme.is_empty() { "" } else { "://" };
    crate::error::one_line(&format!("{scheme}{separator}{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_goes_before_embeddings_and_models_but_not_before_health() {
        for base in [
            "http://localhost:7997/v1",
            "http://localhost:7997/v1/",
            " http://localhost:7997/v1// ",
        ] {
            let endpoint = Endpoint::parse(base).unwrap();
            assert_eq!(endpoint.base, "http://localhost:7997/v1");
            assert_eq!(
                endpoint.embeddings.as_str(),
                "http://localhost:7997/v1/embeddings"
            );
            assert_eq!(endpoint.models.as_str(), "http://localhost:7997/v1/models");
            assert_eq!(endpoint.health.as_str(), "http://localhost:7997/health");
        }
        let bare = Endpoint::parse("https://embed.example").unwrap();
        assert_eq!(bare.base, "https://embed.example");
        assert_eq!(bare.embeddings.as_str(), "https://embed.example/embeddings");
    }

    #[test]
    fn unusable_urls_are_refused_and_their_credentials_never_shown() {
        let cases = [
            ("", "begin with"),
            ("localhost", "begin with"),
            ("localhost:7997", "scheme"),
            ("ftp://host/", "scheme"),
            ("file:///etc/passwd", "scheme"),
            ("http://", "no host"),
            ("http://host:99999", "port"),
            ("http://host/?token=s3cret", "query"),
            ("http://host/#s3cret", "fragment"),
            ("http://user:s3cret@host/", "user name"),
            ("http://s3cret@host/", "user name"),
            ("http://user:s3cret@host:99999/", "port"),
            ("http://user:s3/cret@host/", "port"),
        ];
        for (url, part) in cases {
            let error = Endpoint::parse(url).unwrap_err();
            let Error::InvalidUrl { reason, .. } = &error else {
                panic!("{error:?}")
            };
            assert!(reason.contains(part), "{url}: {reason}");
            assert!(
                !error.to_string().contains("s3cret") && !error.to_string().contains("cret@"),
                "{error}"
            );
        }
    }

    #[test]
    fn only_the_origin_of_a_redirect_is_shown() {
        assert_eq!(
            origin_of("https://other.example:8443/login?token=abc"),
            "https://other.example:8443"
        );
        assert_eq!(origin_of("/embeddings?x=1"), "/embeddings");
    }
}
