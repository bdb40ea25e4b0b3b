//! Inputs that cannot be embedded: refused before they are sent where the server would suffer from them, and told by their
//! position where they are one of many.

use std::io::{Cursor, Write};

use cluster_tests::{Stage, database_error};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use image::{ImageFormat, Rgb, RgbImage};
use mock_infinity::{Fault, Model, Times};
use postgres::Client;
use postgres::error::DbError;

fn picture(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 7) as u8, (y * 5) as u8, 77])
    })
    .write_to(&mut Cursor::new(&mut bytes), format)
    .unwrap();
    bytes
}

/// A black-and-white PNG file whose header tells one height and whose data have another.
fn png_of(width: u32, height: u32, rows: u32) -> Vec<u8> {
    let mut data = ZlibEncoder::new(Vec::new(), Compression::fast());
    let row = vec![0u8; 1 + width.div_ceil(8) as usize];
    for _ in 0..rows {
        data.write_all(&row).unwrap();
    }
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([1, 0, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in [
        (b"IHDR", header),
        (b"IDAT", data.finish().unwrap()),
        (b"IEND", Vec::new()),
    ] {
        let mut checksum = flate2::Crc::new();
        checksum.update(kind);
        checksum.update(&content);
        file.extend((content.len() as u32).to_be_bytes());
        file.extend(kind);
        file.extend(content);
        file.extend(checksum.sum().to_be_bytes());
    }
    file
}

fn refused(client: &mut Client, bytes: &[u8]) -> DbError {
    let error = database_error(client.query_one("SELECT infinity_embed_image($1)", &[&bytes]));
    assert!(error.message().len() < 1024 && error.detail().unwrap().len() < 1024);
    error
}

/// Nothing was sent, and the session goes on.
fn unharmed(stage: &Stage, client: &mut Client) {
    assert!(stage.requests().is_empty(), "{:?}", stage.requests());
    let good = picture(64, 64, ImageFormat::Png);
    client
        .query_one("SELECT infinity_embed_image($1)", &[&good])
        .unwrap();
    stage.server.clear_requests();
}

#[test]
fn broken_pictures_are_refused_before_they_are_sent() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let jpeg = picture(200, 200, ImageFormat::Jpeg);
    let png = picture(200, 200, ImageFormat::Png);
    let mut bad_checksum = png.clone();
    let place = png.len() - 20;
    bad_checksum[place] ^= 0xff;
    let rows: [(&str, Vec<u8>, &str); 8] = [
        ("a truncated JPEG", jpeg[..jpeg.len() / 2].to_vec(), "JPEG"),
        ("a truncated PNG", png[..png.len() / 2].to_vec(), "PNG"),
        ("a PNG with a bad checksum", bad_checksum, "PNG"),
        ("three bytes", vec![1, 2, 3], "3 bytes"),
        ("no bytes", Vec::new(), "0 bytes"),
        ("a text", b"%PDF-1.7 and more".to_vec(), "PDF"),
        ("a sliver", picture(2, 100, ImageFormat::Png), "2"),
        ("a ribbon", picture(4, 900, ImageFormat::Png), "900"),
    ];
    for (what, bytes, word) in rows {
        let error = refused(&mut client, &bytes);
        assert_eq!(error.code().code(), "22023", "{what}: {error:?}");
        assert_eq!(error.message(), "image cannot be embedded");
        assert!(error.detail().unwrap().contains(word), "{what}: {error:?}");
        assert!(error.hint().is_some(), "{what}");
        unharmed(&stage, &mut client);
    }
}

#[test]
fn two_hundred_megapixels_are_not_decoded() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let backend = cluster_tests::Backend::of(&mut client);
    unharmed(&stage, &mut client);
    let before = backend.resident_memory();
    for rows in [10_000, 1] {
        let bomb = png_of(20_000, 10_000, rows);
        assert!(bomb.len() < 1024 * 1024, "{} bytes", bomb.len());
        let error = refused(&mut client, &bomb);
        assert_eq!(error.code().code(), "54000", "{error:?}");
        let detail = error.detail().unwrap();
        for number in ["20000", "10000", "40000000"] {
            assert!(detail.contains(number), "{detail}");
        }
    }
    let after = backend.resident_memory();
    assert!(
        after < before + 64 * 1024 * 1024,
        "{before} before, {after} after"
    );
    unharmed(&stage, &mut client);
}

#[test]
fn a_header_that_promises_more_than_there_is_does_not_help() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let error = refused(&mut client, &png_of(5_000, 5_000, 10));
    assert_eq!(error.code().code(), "22023", "{error:?}");
    assert!(error.detail().unwrap().contains("PNG"), "{error:?}");
    unharmed(&stage, &mut client);
}

#[test]
fn a_text_of_200_000_characters_is_refused_with_both_numbers() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let error = database_error(
        client.batch_execute("SELECT infinity_embed_text(repeat('word ', 39999) || 'words')"),
    );
    assert_eq!(error.code().code(), "54000", "{error:?}");
    assert_eq!(
        error.message(),
        "text of 200000 characters is too long to embed"
    );
    assert!(error.detail().unwrap().contains("122880"), "{error:?}");
    assert!(stage.requests().is_empty());
    client
        .batch_execute("SELECT infinity_embed_text(repeat('x', 122880))")
        .unwrap();
}

#[test]
fn the_bad_one_among_good_pictures_is_named_by_its_element() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let good = Some(picture(50, 50, ImageFormat::Png));
    let bad = Some(vec![1u8, 2, 3]);
    let call = "SELECT count(*) FROM infinity_embed_images($1)";
    for (pictures, position) in [
        (
            vec![good.clone(), good.clone(), bad.clone(), good.clone()],
            3,
        ),
        (vec![None, bad.clone(), None], 2),
        (
            [vec![good.clone(); 11], vec![None, bad.clone()]].concat(),
            13,
        ),
    ] {
        let error = database_error(client.query_one(call, &[&pictures]));
        assert_eq!(error.code().code(), "22023", "{error:?}");
        let place = format!("This is element {position} of the array.");
        assert!(error.detail().unwrap().ends_with(&place), "{error:?}");
    }
    // One that only the server refuses is found by halving the batch, and named as well.
    stage.server.inject(
        Fault::PoisonImage {
            width: 60,
            height: 60,
            status: 400,
        },
        Times::Always,
    );
    let mut pictures = vec![good.clone(); 9];
    pictures[6] = Some(picture(60, 60, ImageFormat::Png));
    let error = database_error(client.query_one(call, &[&pictures]));
    assert_eq!(error.code().code(), "22023", "{error:?}");
    assert_eq!(error.message(), "the Infinity server refused the input");
    assert!(
        error
            .detail()
            .unwrap()
            .ends_with("This is element 7 of the array.")
    );
    pictures.remove(6);
    let row = client.query_one(call, &[&pictures]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 8);
}

#[test]
fn the_bad_one_among_good_texts_is_named_by_its_element() {
    let stage = Stage::new(Model::lite("lite"));
    let mut client = stage.client();
    let marker = "poison".to_owned();
    stage.server.inject(
        Fault::Poison {
            marker,
            status: 422,
        },
        Times::Always,
    );
    let error = database_error(client.batch_execute(
        "SELECT infinity_embed_texts(array_agg(CASE i WHEN 57 THEN 'poison' WHEN 3 THEN NULL ELSE 'text ' || i END))
         FROM generate_series(1, 95) i",
    ));
    assert_eq!(error.code().code(), "22023", "{error:?}");
    assert!(
        error
            .detail()
            .unwrap()
            .ends_with("This is element 57 of the array.")
    );
    let error = database_error(
        client.batch_execute("SELECT infinity_embed_texts(ARRAY['a', repeat('y', 200000)])"),
    );
    assert_eq!(error.code().code(), "54000", "{error:?}");
    assert!(
        error
            .detail()
            .unwrap()
            .ends_with("This is element 2 of the array.")
    );
    client
        .batch_execute("SELECT infinity_embed_texts(ARRAY['a', 'b'])")
        .unwrap();
}
