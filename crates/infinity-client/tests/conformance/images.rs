//! Images: every format and mode is embedded, order is kept, and nothing broken gets to the server, which dies of it.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use infinity_client::{
    BlockingWait, Client, Encoding, Error, ImageProblem, MAX_IMAGE_RATIO, MAX_IMAGES_PER_REQUEST,
    Modality, MultiVector, Outcome,
};

use crate::{CLIENT, Kind, Served, assert_same, distance, norms, score, served_if};

/// Written by make_images.py: one picture as the encoders of the `image` crate cannot write it.
const FILES: [(&str, &[u8]); 14] = [
    ("cmyk.jpg", include_bytes!("cmyk.jpg")),
    ("progressive.jpg", include_bytes!("progressive.jpg")),
    ("grey.jpg", include_bytes!("grey.jpg")),
    ("turned.jpg", include_bytes!("turned.jpg")),
    ("palette.png", include_bytes!("palette.png")),
    (
        "palette_transparent.png",
        include_bytes!("palette_transparent.png"),
    ),
    ("one_bit.png", include_bytes!("one_bit.png")),
    ("fax.tif", include_bytes!("fax.tif")),
    ("lzw.tif", include_bytes!("lzw.tif")),
    ("cmyk.tif", include_bytes!("cmyk.tif")),
    ("animated.gif", include_bytes!("animated.gif")),
    ("lossy.webp", include_bytes!("lossy.webp")),
    ("alpha_lossy.webp", include_bytes!("alpha_lossy.webp")),
    ("palette.bmp", include_bytes!("palette.bmp")),
];

fn file(name: &str) -> Vec<u8> {
    let found = FILES.iter().find(|(known, _)| *known == name).unwrap();
    found.1.to_vec()
}

/// Coloured bars on white.
pub(crate) fn picture(width: u32, height: u32) -> DynamicImage {
    let colour = |x: u32, y: u32| match (x / 8 + y / 16) % 3 {
        0 => Rgb([255, 255, 255]),
        1 => Rgb([(x * 7) as u8, 40, (y * 5) as u8]),
        _ => Rgb([20, (y * 3) as u8, 120]),
    };
    RgbImage::from_fn(width, height, colour).into()
}

pub(crate) fn as_file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(width: u32, height: u32) -> Vec<u8> {
    as_file(&picture(width, height), ImageFormat::Png)
}

fn with_images() -> Option<Served> {
    served_if(Kind::takes_images)
}

/// One image, embedded alone.
fn image(served: &Served, file: Vec<u8>) -> MultiVector {
    served.images(vec![file]).remove(0).unwrap()
}

fn assert_embedded(served: &Served, name: &str, outcome: &Outcome) {
    let rows = outcome
        .as_ref()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(rows.tokens > 0 && rows.dim == served.kind.dim(), "{name}");
    assert!(
        norms(rows).iter().all(|norm| (norm - 1.0).abs() < 1e-3),
        "{name}"
    );
}

#[test]
fn images_of_every_format_and_mode_are_embedded() {
    let Some(served) = with_images() else { return };
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let base = picture(80, 60);
    let made: [(&str, DynamicImage, ImageFormat); 15] = [
        ("rgb jpeg", base.clone(), Jpeg),
        ("grey jpeg", base.to_luma8().into(), Jpeg),
        ("rgb png", base.clone(), Png),
        ("grey png", base.to_luma8().into(), Png),
        ("grey alpha png", base.to_luma_alpha8().into(), Png),
        ("alpha png", base.to_rgba8().into(), Png),
        ("16-bit grey png", base.to_luma16().into(), Png),
        ("16-bit alpha png", base.to_rgba16().into(), Png),
        ("gif", base.clone(), Gif),
        ("webp", base.clone(), WebP),
        ("alpha webp", base.to_rgba8().into(), WebP),
        ("bmp", base.clone(), Bmp),
        ("tiff", base.clone(), Tiff),
        ("16-bit tiff", base.to_rgb16().into(), Tiff),
        ("float tiff", base.to_rgb32f().into(), Tiff),
    ];
    let files = made
        .iter()
        .map(|(_, picture, format)| as_file(picture, *format))
        .chain(FILES.map(|(_, bytes)| bytes.to_vec()));
    let outcomes = served.images(files.collect());
    let names = made
        .iter()
        .map(|(name, ..)| *name)
        .chain(FILES.map(|(name, _)| name));
    for (name, outcome) in names.zip(&outcomes) {
        assert_embedded(&served, name, outcome);
    }
    served.assert_alive();
}

#[test]
fn the_same_pixels_give_the_same_vectors_whatever_file_they_come_in() {
    let Some(served) = with_images() else { return };
    use ImageFormat::{Bmp, Png, Tiff};
    let found = [Png, Bmp, Tiff].map(|format| image(&served, as_file(&picture(90, 70), format)));
    assert_same(&found[0], &found[1], "bmp");
    assert_same(&found[0], &found[2], "tiff");
    let palette = image(&served, file("palette.png"));
    assert_same(&palette, &image(&served, file("palette.bmp")), "palette");
    let one_bit = image(&served, file("one_bit.png"));
    assert_same(&one_bit, &image(&served, file("fax.tif")), "one bit");
}

#[test]
fn base64_and_float_give_the_same_vectors_of_an_image() {
    let Some(served) = with_images() else { return };
    let float = served.with(|config| config.encoding = Encoding::Float);
    let outcomes = CLIENT.embed_images(&float, vec![png(64, 96)], &mut BlockingWait);
    let float = outcomes.unwrap().remove(0).unwrap();
    assert_same(&image(&served, png(64, 96)), &float, "float");
}

#[test]
fn colours_of_a_cmyk_photograph_are_not_inverted() {
    let Some(served) = with_images() else { return };
    let rgb = file("progressive.jpg");
    let mut inverted = image::load_from_memory(&rgb).unwrap();
    inverted.invert();
    let right = image(&served, rgb);
    let wrong = image(&served, as_file(&inverted, ImageFormat::Png));
    for name in ["cmyk.jpg", "cmyk.tif"] {
        let cmyk = image(&served, file(name));
        let (near, far) = (score(&cmyk, &right), score(&cmyk, &wrong));
        assert!(
            near > far,
            "{name}: {near} to the picture, {far} to its negative"
        );
    }
}

#[test]
fn thirty_three_images_are_spread_over_requests_and_keep_their_order() {
    let Some(served) = with_images() else { return };
    let file = |i: usize| png(40 + 8 * (i as u32 % 7), 30 + 6 * (i as u32));
    let count = MAX_IMAGES_PER_REQUEST + 1;
    let config = served.with(|config| {
        config.batch_size = usize::MAX;
        config.max_concurrency = 2;
    });
    let outcomes = CLIENT
        .embed_images(&config, (0..count).map(file).collect(), &mut BlockingWait)
        .unwrap();
    assert_eq!(outcomes.len(), count);
    let all: Vec<&MultiVector> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().unwrap())
        .collect();
    for index in [0, 9, 31, 32] {
        assert_same(all[index], &image(&served, file(index)), "alone");
        for other in 0..count {
            let same = distance(all[index], all[other]) < 1e-4;
            assert_eq!(same, index == other, "images {index} and {other}");
        }
    }
}

#[test]
fn sides_at_the_limits_are_taken_and_do_no_harm_to_their_neighbours() {
    let Some(served) = with_images() else { return };
    // Sent as they are, three rows before another picture would end ColPali's worker: rows are taken for channels.
    let sides = [
        (600, 3),
        (40, 50),
        (3, 3),
        (3, 600),
        (7 * MAX_IMAGE_RATIO, 7),
        (29, 31),
    ];
    let files = sides.map(|(width, height)| png(width, height));
    for (index, outcome) in served.images(files.to_vec()).iter().enumerate() {
        let what = format!("{:?}", sides[index]);
        assert_embedded(&served, &what, outcome);
        let alone = image(&served, files[index].clone());
        assert_same(outcome.as_ref().unwrap(), &alone, &what);
    }
    served.assert_alive();
}

#[test]
fn broken_images_never_reach_the_server_and_the_others_are_embedded() {
    let Some(served) = with_images() else { return };
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let of = |format| as_file(&picture(100, 80), format);
    let mut bad_checksum = png(60, 60);
    let middle = bad_checksum.len() / 2;
    bad_checksum[middle] ^= 0x55;
    let mut no_end = of(ImageFormat::Jpeg);
    no_end.truncate(no_end.len() - 2);
    let mut broken: Vec<(&str, Vec<u8>)> = vec![
        ("half a jpeg", half(of(ImageFormat::Jpeg))),
        ("half a progressive jpeg", half(file("progressive.jpg"))),
        ("a jpeg without its end", no_end),
        ("half a png", half(of(ImageFormat::Png))),
        ("half a gif", half(of(ImageFormat::Gif))),
        ("half a webp", half(of(ImageFormat::WebP))),
        ("half a bmp", half(of(ImageFormat::Bmp))),
        ("half a tiff", half(of(ImageFormat::Tiff))),
        ("a bad checksum", bad_checksum),
        ("too elongated", png(3 * MAX_IMAGE_RATIO + 1, 3)),
        ("too small", png(2, 50)),
        ("three bytes", b"abc".to_vec()),
        ("nothing", Vec::new()),
    ];
    // Good ones between them, so that the requests that do go out are counted by their answers.
    broken.insert(5, ("good", png(40, 40)));
    broken.push(("good", png(50, 40)));
    let files = broken.iter().map(|(_, bytes)| bytes.clone()).collect();
    for (index, (outcome, (name, _))) in served.images(files).iter().zip(&broken).enumerate() {
        match outcome {
            outcome @ Ok(_) if *name == "good" => assert_embedded(&served, name, outcome),
            // Refused by the client, not by the server: that would be another error.
            Err(Error::Image { index: named, .. }) if *named == index => {}
            other => panic!("{name}: {other:?}"),
        }
    }
    served.assert_alive();
    let outcomes = served.images(vec![png(40, 40)]);
    assert_embedded(&served, "afterwards", &outcomes[0]);
}

#[test]
fn an_image_for_a_model_of_texts_is_refused_by_name() {
    let Some(served) = served_if(|kind| !kind.takes_images()) else {
        return;
    };
    for client in [&Client::new(), &CLIENT] {
        let error = client
            .embed_images(
                &served.config,
                vec![png(30, 30), png(40, 40)],
                &mut BlockingWait,
            )
            .unwrap_err();
        let Error::UnsupportedModality {
            model, modality, ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(
            (&model[..], *modality),
            (&served.config.model[..], Modality::Image)
        );
    }
    // A broken one is still this image's own fault.
    let outcomes = served.images(vec![b"abc".to_vec()]);
    assert!(matches!(
        &outcomes[0],
        Err(Error::Image {
            index: 0,
            problem: ImageProblem::NotRecognised { bytes: 3, .. }
        })
    ));
    served.assert_alive();
}
