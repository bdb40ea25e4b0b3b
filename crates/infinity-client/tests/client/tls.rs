//! https: an unknown certificate is refused and told, a known one is used, and what is no TLS is told too.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use infinity_client::{BlockingWait, Client, Config, ConnectKind, Error};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::connections::rerun;
use crate::scripted::answer;
use crate::{float, serve, texts};

/// Serves one right answer per connection over TLS, under a certificate of its own making, whose PEM it returns.
fn serve_tls() -> (String, String) {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let certificate: CertificateDer = made.cert.der().clone();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![certificate], key)
    .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(config.clone()).unwrap();
            std::thread::spawn(move || {
                let mut stream = rustls::StreamOwned::new(session, stream);
                let mut request = Vec::new();
                // The body is JSON, so the request is whole when it ends with a brace.
                while !request.ends_with(b"}") {
                    let mut piece = [0; 4096];
                    match stream.read(&mut piece) {
                        Ok(read) if read > 0 => request.extend_from_slice(&piece[..read]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(&answer(&["[[1,2]]"]));
                stream.conn.send_close_notify();
                let _ = stream.flush();
            });
        }
    });
    (url, made.cert.pem())
}

fn one(url: &str) -> Result<(), Error> {
    Client::new()
        .embed_texts(&float(url), texts(&["hello"]), &mut BlockingWait)
        .map(|_| ())
}

#[test]
fn a_certificate_of_the_systems_roots_is_trusted_and_an_unknown_one_is_not() {
    if let Ok(url) = std::env::var("INFINITY_CLIENT_TLS_URL") {
        return one(&url).unwrap();
    }
    let (url, pem) = serve_tls();
    let roots =
        std::env::temp_dir().join(format!("infinity-client-roots-{}.pem", std::process::id()));
    std::fs::write(&roots, pem).unwrap();
    let known =
        rerun("tls::a_certificate_of_the_systems_roots_is_trusted_and_an_unknown_one_is_not")
            .env("INFINITY_CLIENT_TLS_URL", &url)
            .env("SSL_CERT_FILE", &roots)
            .status();
    std::fs::remove_file(&roots).unwrap();
    assert!(known.unwrap().success());
    let error = one(&url).unwrap_err();
    let Error::Connect {
        kind: ConnectKind::Tls,
        attempts: 1,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert!(!error.is_transient());
}

#[test]
fn https_to_a_server_without_tls_is_a_tls_error() {
    let server = serve(mock_infinity::Model::colbert);
    let url = server.url().replace("http://", "https://");
    let error = one(&url).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Connect {
                kind: ConnectKind::Tls,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn http_to_a_server_with_tls_is_no_answer() {
    let (url, _) = serve_tls();
    let url = url.replace("https://", "http://");
    let config = Config {
        max_retries: 0,
        ..float(&url)
    };
    let error = Client::new()
        .embed_texts(&config, texts(&["hello"]), &mut BlockingWait)
        .unwrap_err();
    assert!(
        matches!(error, Error::Malformed { .. } | Error::Lost { .. }),
        "{error:?}"
    );
}
