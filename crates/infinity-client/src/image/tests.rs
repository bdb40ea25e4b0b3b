//! Tests of what images are accepted, what they become, and what is said of the others.

use image::{Rgb, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;

const MAX_PIXELS: u64 = 1_000_000;

fn picture(width: u32, height: u32) -> DynamicImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 9) as u8, (y * 11) as u8, (x * y) as u8])
    })
    .into()
}

fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// The picture that a data URI shows, and its mime type.
fn shown(uri: &str) -> (RgbImage, &str) {
    let (mime, data) = uri
        .strip_prefix("data:")
        .unwrap()
        .split_once(";base64,")
        .unwrap();
    (
        image::load_from_memory(&STANDARD.decode(data).unwrap())
            .unwrap()
            .into_rgb8(),
        mime,
    )
}

const FORMATS: [ImageFormat; 6] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::Gif,
    ImageFormat::WebP,
    ImageFormat::Bmp,
    ImageFormat::Tiff,
];

#[test]
fn small_lossless_sources_stay_lossless_and_the_others_become_jpeg() {
    let small = picture(60, 40);
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff] {
        let uri = data_uri(&file(&small, format), MAX_PIXELS).unwrap();
        assert_eq!(shown(&uri), (small.to_rgb8(), "image/png"), "{format:?}");
    }
    let large = picture(700, 500);
    let jpeg = [
        (&small, ImageFormat::Jpeg),
        (&small, ImageFormat::WebP),
        (&large, ImageFormat::Png),
    ];
    for (picture, format) in jpeg {
        let uri = data_uri(&file(picture, format), MAX_PIXELS).unwrap();
        let (seen, mime) = shown(&uri);
        assert_eq!(
            (mime, seen.dimensions()),
            ("image/jpeg", (picture.width(), picture.height()))
        );
    }
}

#[test]
fn transparent_parts_become_white() {
    let mut drawing = RgbaImage::from_pixel(10, 10, Rgba([200, 0, 0, 0]));
    drawing.put_pixel(1, 1, Rgba([0, 0, 255, 255]));
    drawing.put_pixel(2, 2, Rgba([0, 0, 0, 51]));
    let uri = data_uri(&file(&drawing.into(), ImageFormat::Png), MAX_PIXELS).unwrap();
    let (seen, _) = shown(&uri);
    let pixel = |at| seen.get_pixel(at, at).0;
    assert_eq!(
        [pixel(0), pixel(1), pixel(2)],
        [[255; 3], [0, 0, 255], [204; 3]]
    );
}

#[test]
fn every_colour_type_becomes_rgb() {
    let source = picture(20, 20);
    let kinds: [DynamicImage; 6] = [
        source.to_luma8().into(),
        source.to_luma_alpha8().into(),
        source.to_luma16().into(),
        source.to_rgba8().into(),
        source.to_rgb16().into(),
        source.to_rgba16().into(),
    ];
    for kind in &kinds {
        let uri = data_uri(&file(kind, ImageFormat::Png), MAX_PIXELS).unwrap();
        assert_eq!(shown(&uri).0, kind.to_rgb8(), "{:?}", kind.color());
    }
}

#[test]
fn a_photograph_is_turned_upright() {
    let mut dark_top = RgbImage::from_pixel(40, 24, Rgb([255; 3]));
    dark_top
        .rows_mut()
        .take(12)
        .flatten()
        .for_each(|pixel| *pixel = Rgb([0; 3]));
    let jpeg = file(&dark_top.into(), ImageFormat::Jpeg);
    // An APP1 segment with one EXIF entry: orientation (0x0112) 6, to be turned a quarter clockwise.
    let mut exif =
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1]);
    turned.extend((exif.len() as u16 + 2).to_be_bytes());
    turned.append(&mut exif);
    turned.extend(&jpeg[2..]);
    let uri = data_uri(&turned, MAX_PIXELS).unwrap();
    let (seen, _) = shown(&uri);
    assert_eq!(seen.dimensions(), (24, 40));
    assert!(
        seen.get_pixel(20, 20).0[0] < 60 && seen.get_pixel(3, 20).0[0] > 200,
        "the top is on the right now"
    );
}

#[test]
fn three_rows_are_sent_as_four_and_three_columns_stay() {
    for (sides, sent) in [
        ((3, 3), (3, 4)),
        ((600, 3), (600, 4)),
        ((3, 600), (3, 600)),
        ((50, 4), (50, 4)),
    ] {
        let source = picture(sides.0, sides.1);
        let uri = data_uri(&file(&source, ImageFormat::Png), MAX_PIXELS).unwrap();
        let (seen, _) = shown(&uri);
        assert_eq!(seen.dimensions(), sent);
        let source = source.into_rgb8();
        for (x, y, pixel) in seen.enumerate_pixels() {
            assert_eq!(pixel, source.get_pixel(x, y.min(sides.1 - 1)));
        }
    }
}

#[test]
fn the_sides_are_held_to_their_bounds() {
    let check = |width, height| check_sides(width, height, MAX_PIXELS);
    assert_eq!(check(3, 3), Ok(()));
    assert_eq!(check(3, 600), Ok(()));
    assert_eq!(check(1000, 1000), Ok(()));
    assert_eq!(
        check(2, 3),
        Err(ImageProblem::TooSmall {
            width: 2,
            height: 3
        })
    );
    assert_eq!(
        check(0, 0),
        Err(ImageProblem::TooSmall {
            width: 0,
            height: 0
        })
    );
    assert_eq!(
        check(601, 3),
        Err(ImageProblem::TooElongated {
            width: 601,
            height: 3
        })
    );
    assert_eq!(
        check(3, 601),
        Err(ImageProblem::TooElongated {
            width: 3,
            height: 601
        })
    );
    let problem = ImageProblem::TooManyPixels {
        width: 1001,
        height: 1000,
        limit: MAX_PIXELS,
    };
    assert_eq!(check(1001, 1000), Err(problem));
    assert!(check(u32::MAX, u32::MAX).is_err());
}

#[test]
fn bytes_after_the_end_do_no_harm() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif] {
        let mut bytes = file(&picture(30, 20), format);
        bytes.extend(b"a preview or whatever \xff\xd8\xff");
        assert!(data_uri(&bytes, MAX_PIXELS).is_ok(), "{format:?}");
    }
}

#[test]
fn what_is_no_image_is_named_where_it_is_easy() {
    let cases: [(&[u8], Option<&str>); 10] = [
        (b"", None),
        (b"abc", None),
        (b"%PDF-1.4 ...", Some("PDF")),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", Some("SVG")),
        (b"  <!DOCTYPE html><html>", Some("HTML")),
        (b"\0\0\0\x18ftypheic\0\0\0\0", Some("HEIC")),
        (b"\0\0\0\x18ftypavif\0\0\0\0", Some("AVIF")),
        (b"data:image/png;base64,AAAA", Some("data URI")),
        (b"\\x89504e47", Some("hexadecimal")),
        (b"\0\0\x01\0\x01\0", Some("icon")),
    ];
    for (bytes, kind) in cases {
        let problem = data_uri(bytes, MAX_PIXELS).unwrap_err();
        let ImageProblem::NotRecognised {
            bytes: length,
            looks_like,
        } = problem
        else {
            panic!("{problem:?}")
        };
        assert_eq!(length, bytes.len());
        assert_eq!(looks_like.is_some(), kind.is_some(), "{looks_like:?}");
        assert!(
            looks_like
                .unwrap_or_default()
                .contains(kind.unwrap_or_default()),
            "{looks_like:?}"
        );
    }
}

#[test]
fn no_truncated_file_is_taken_for_another_picture() {
    for format in FORMATS {
        let whole = file(&picture(33, 27), format);
        let expected = decode(&whole, MAX_PIXELS).unwrap().0;
        let mut refused = 0;
        for length in 0..whole.len() {
            match decode(&whole[..length], MAX_PIXELS) {
                Ok((picture, _)) => assert_eq!(
                    picture,
                    expected,
                    "{format:?} cut to {length} of {}",
                    whole.len()
                ),
                Err(_) => refused += 1,
            }
        }
        // What may be missing is only what does not matter: a GIF's trailer, padding, offsets of further pages.
        assert!(
            refused + 64 >= whole.len(),
            "{format:?}: {refused} of {}",
            whole.len()
        );
        if matches!(format, ImageFormat::Jpeg | ImageFormat::Png) {
            assert_eq!(refused, whole.len(), "{format:?}");
        }
    }
}

#[test]
fn a_truncated_file_is_called_truncated() {
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::Gif] {
        let whole = file(&picture(64, 64), format);
        let problem = data_uri(&whole[..whole.len() * 2 / 3], MAX_PIXELS).unwrap_err();
        assert!(
            matches!(problem, ImageProblem::Truncated { .. }),
            "{format:?}: {problem:?}"
        );
    }
}

#[test]
fn a_png_with_a_bad_checksum_is_refused() {
    let whole = file(&picture(40, 40), ImageFormat::Png);
    let data = whole.windows(4).position(|four| four == b"IDAT").unwrap();
    let length = u32::from_be_bytes(*whole[data - 4..].first_chunk().unwrap()) as usize;
    for at in [data + 4 + length, data + 4 + length + 3] {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        let problem = data_uri(&bad, MAX_PIXELS).unwrap_err();
        assert!(
            matches!(problem, ImageProblem::Corrupt { format: "PNG", .. }),
            "{problem:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn damaged_files_never_panic_and_never_pass_the_pixel_bound(
        format in prop::sample::select(FORMATS.to_vec()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = file(&picture(24, 18), format);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut.index(4) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        let outcome = std::panic::catch_unwind(|| decode(&bytes, 10_000));
        if let Ok(Ok((picture, _))) = outcome {
            prop_assert!(u64::from(picture.width()) * u64::from(picture.height()) <= 10_000);
        }
    }

    #[test]
    fn arbitrary_bytes_are_walked_without_panicking(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for format in FORMATS {
            let _ = complete::reaches_its_end(format, &bytes);
        }
        let _ = guess::what_it_is(&bytes);
    }
}
