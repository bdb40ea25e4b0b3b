//! Fact 5 at the server's door: bad images are refused here and never sent, good ones arrive as images the server takes.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use infinity_client::{BlockingWait, Client, Config, Error, ImageProblem, Outcome};
use mock_infinity::{Fault, Model, Options, Server, Times};

use crate::{config, serve};

pub(crate) fn picture(width: u32, height: u32) -> DynamicImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 7) as u8, (y * 5) as u8, (x ^ y) as u8])
    })
    .into()
}

pub(crate) fn file(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture(width, height).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    file(width, height, ImageFormat::Png)
}

fn embed(config: &Config, images: Vec<Vec<u8>>) -> Vec<Outcome> {
    Client::new()
        .embed_images(config, images, &mut BlockingWait)
        .unwrap()
}

/// An answer proves it: the mock dies of bad images as the true server does.
fn assert_alive(server: &Server) {
    let outcomes = embed(&config(&server.url()), vec![png(30, 30)]);
    assert!(outcomes[0].is_ok());
}

#[test]
fn every_format_is_embedded_and_goes_out_as_a_data_uri() {
    let server = serve(Model::colqwen2);
    use ImageFormat::*;
    let images: Vec<Vec<u8>> = [Jpeg, Png, Gif, WebP, Bmp, Tiff]
        .map(|format| file(64, 48, format))
        .to_vec();
    let outcomes = embed(&config(&server.url()), images);
    for outcome in &outcomes {
        assert!(outcome.as_ref().unwrap().tokens > 0);
    }
    let requests = server.requests();
    let sent = requests.last().unwrap();
    assert_eq!(
        (sent.modality.as_deref(), sent.inputs, sent.status),
        (Some("image"), 6, Some(200))
    );
}

#[test]
fn bad_images_are_named_and_never_sent_and_the_others_are_embedded() {
    let server = serve(Model::colqwen2);
    let jpeg = file(100, 80, ImageFormat::Jpeg);
    let mut bad_checksum = png(60, 60);
    let middle = bad_checksum.len() / 2;
    bad_checksum[middle] ^= 0x55;
    let bad = [
        jpeg[..jpeg.len() - 400].to_vec(),
        png(60, 60)[..300].to_vec(),
        file(60, 60, ImageFormat::Gif)[..200].to_vec(),
        bad_checksum,
        png(900, 3),
        png(2, 50),
        b"abc".to_vec(),
        Vec::new(),
        b"%PDF-1.7\n".to_vec(),
    ];
    let mut images = bad.to_vec();
    images.insert(4, png(40, 40));
    images.push(png(50, 40));
    let outcomes = embed(
        &Config {
            batch_size: 4,
            ..config(&server.url())
        },
        images,
    );
    use ImageProblem::*;
    for (index, outcome) in outcomes.iter().enumerate() {
        let problem = match outcome {
            Ok(_) if index == 4 || index == 10 => continue,
            Err(Error::Image {
                index: named,
                problem,
            }) if *named == index => problem,
            other => panic!("{index}: {other:?}"),
        };
        let right = match index {
            0..=2 => matches!(problem, Truncated { .. }),
            3 => matches!(problem, Corrupt { format: "PNG", .. }),
            5 => matches!(
                problem,
                TooElongated {
                    width: 900,
                    height: 3
                }
            ),
            6 => matches!(
                problem,
                TooSmall {
                    width: 2,
                    height: 50
                }
            ),
            7 => matches!(
                problem,
                NotRecognised {
                    bytes: 3,
                    looks_like: None
                }
            ),
            8 => matches!(problem, NotRecognised { bytes: 0, .. }),
            _ => {
                matches!(problem, NotRecognised { looks_like: Some(kind), .. } if kind.contains("PDF"))
            }
        };
        assert!(right, "{index}: {problem:?}");
    }
    let sent: usize = server
        .requests()
        .iter()
        .filter(|r| r.modality.as_deref() == Some("image"))
        .map(|r| r.inputs)
        .sum();
    assert_eq!(sent, 2);
    assert_alive(&server);
}

#[test]
fn a_picture_of_too_many_pixels_is_refused_by_its_header() {
    let server = serve(Model::colqwen2);
    // A header of 20,000 x 10,000 with hardly any data: decoding it would take 800 MB.
    let mut bomb = png(64, 64);
    bomb[16..24].copy_from_slice(&[0, 0, 0x4e, 0x20, 0, 0, 0x27, 0x10]);
    let checksum = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&checksum.to_be_bytes());
    let begun = std::time::Instant::now();
    let outcomes = embed(&config(&server.url()), vec![bomb]);
    let problem = ImageProblem::TooManyPixels {
        width: 20_000,
        height: 10_000,
        limit: 100_000_000,
    };
    assert_eq!(outcomes[0], Err(Error::Image { index: 0, problem }));
    assert!(begun.elapsed() < std::time::Duration::from_secs(1) && server.requests().is_empty());
}

/// The checksum of PNG chunks, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 {
                (sum >> 1) ^ 0xedb8_8320
            } else {
                sum >> 1
            }
        })
    })
}

#[test]
fn no_more_than_32_images_go_in_one_request() {
    let server = serve(Model::colqwen2);
    let outcomes = embed(
        &Config {
            batch_size: 1000,
            ..config(&server.url())
        },
        vec![png(10, 10); 70],
    );
    assert!(outcomes.iter().all(Result::is_ok));
    let mut sizes: Vec<usize> = server
        .requests()
        .iter()
        .filter(|r| r.modality.as_deref() == Some("image"))
        .map(|r| r.inputs)
        .collect();
    sizes.sort();
    assert_eq!(sizes, [6, 32, 32]);
}

#[test]
fn large_images_are_spread_over_requests_by_their_bytes() {
    let server = serve(Model::lite);
    // Noise does not compress: some 6 MB each as JPEG, 8 as base64.
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let picture = RgbImage::from_fn(1800, 1600, |_, _| Rgb([noise(), noise(), noise()]));
    let mut file = Cursor::new(Vec::new());
    DynamicImage::from(picture)
        .write_to(&mut file, ImageFormat::Bmp)
        .unwrap();
    let outcomes = embed(&config(&server.url()), vec![file.into_inner(); 3]);
    assert!(outcomes.iter().all(Result::is_ok));
    let requests = server.requests();
    let images: Vec<_> = requests
        .iter()
        .filter(|r| r.modality.as_deref() == Some("image"))
        .collect();
    assert!(
        images.len() > 1 && images.iter().map(|r| r.inputs).sum::<usize>() == 3,
        "{}",
        images.len()
    );
    assert!(
        images
            .iter()
            .all(|r| r.inputs == 1 || r.body_bytes < infinity_client::MAX_REQUEST_BYTES + 1024)
    );
}

#[test]
fn an_image_the_server_refuses_is_found_by_bisection() {
    let server = Server::start(Options::new(Model::colqwen2("m")));
    server.inject(
        Fault::PoisonImage {
            width: 33,
            height: 44,
            status: 400,
        },
        Times::Always,
    );
    let mut images = vec![png(40, 40); 9];
    images[5] = png(33, 44);
    let outcomes = embed(&config(&server.url()), images);
    for (index, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Err(Error::Rejected {
                index: 5,
                status: 400,
                ..
            }) => assert_eq!(index, 5),
            outcome => assert!(outcome.is_ok() && index != 5, "{index}: {outcome:?}"),
        }
    }
}
