//! Pictures: what the true server does with the bytes of an image, from the data URI to one vector per patch.
//!
//! Two stages, as there: `open` reads the header in the front of the server and answers 400; `decode` runs in the worker,
//! whose death it means when it fails. A patch speaks through its colours, its slopes and its roughness.

use std::io::Cursor;

use base64::Engine as _;
use image::{DynamicImage, ImageReader, Limits, RgbImage};

use crate::options::Kind;
use crate::vectors::{Lexicon, add, scale};

/// Pillow's decompression bomb limit, in pixels.
const MAX_PIXELS: u64 = 178_956_970;
/// Qwen2-VL's patch edge, and the pixels it scales a picture between.
const QWEN_EDGE: f64 = 28.0;
const QWEN_MIN_PIXELS: f64 = 4.0 * QWEN_EDGE * QWEN_EDGE;
const QWEN_MAX_PIXELS: f64 = 768.0 * QWEN_EDGE * QWEN_EDGE;
/// The aspect ratio that kills a ColQwen2's worker.
const QWEN_MAX_RATIO: u32 = 200;
/// Pixels that one patch is looked at with, per side.
const SAMPLES: u32 = 4;
/// Pixels of the picture that one of those is averaged from at most, per side.
const LOOKS: u64 = 8;

/// Names of colours, so that the word "red" finds a red picture.
const COLOURS: [(&str, [f32; 3]); 10] = [
    ("black", [0.0, 0.0, 0.0]),
    ("white", [1.0, 1.0, 1.0]),
    ("gray", [0.5, 0.5, 0.5]),
    ("red", [1.0, 0.0, 0.0]),
    ("green", [0.0, 0.6, 0.0]),
    ("blue", [0.0, 0.0, 1.0]),
    ("yellow", [1.0, 1.0, 0.0]),
    ("orange", [1.0, 0.6, 0.0]),
    ("purple", [0.5, 0.0, 0.5]),
    ("cyan", [0.0, 1.0, 1.0]),
];

/// An image whose header has been read.
#[derive(Debug)]
pub(crate) struct Opened {
    bytes: Vec<u8>,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// Reads the header.
///
/// # Errors
/// The message of the 400 that the true server answers with.
pub(crate) fn open(source: &str) -> Result<Opened, String> {
    let Some(data) = source.strip_prefix("data:") else {
        return Err(refused_url(source));
    };
    let data = data.split_once(',').map_or("", |(_, data)| data);
    let bytes = decode_base64(data);
    let size = ImageReader::new(Cursor::new(&bytes))
        .with_guessed_format()
        .ok()
        .and_then(|reader| reader.into_dimensions().ok());
    let corrupt = |reason: String| {
        format!(
            "<class 'infinity_emb.primitives.ImageCorruption'> -> error decoding data URI: {reason}"
        )
    };
    let Some((width, height)) = size else {
        return Err(corrupt(
            "cannot identify image file <_io.BytesIO object at 0x7f164df8c130>".to_owned(),
        ));
    };
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS {
        return Err(corrupt(format!(
            "Image size ({pixels} pixels) exceeds limit of {MAX_PIXELS} pixels, could be decompression bomb DOS attack."
        )));
    }
    if width < 3 || height < 3 {
        return Err(corrupt(format!(
            "An image in your request is too small for processing ({width}, {height}). Minimum required size is 3x3."
        )));
    }
    Ok(Opened {
        bytes,
        width,
        height,
    })
}

/// Python's lenient decoder: characters outside the alphabet are skipped.
fn decode_base64(data: &str) -> Vec<u8> {
    let strict = &base64::engine::general_purpose::STANDARD;
    strict.decode(data).unwrap_or_else(|_| {
        let kept: String = data
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "+/=".contains(*c))
            .collect();
        strict.decode(kept).unwrap_or_default()
    })
}

/// The mock fetches nothing: addresses of the own machine are refused as the true server does, others are not found.
fn refused_url(url: &str) -> String {
    let host = url
        .split_once("://")
        .map_or(url, |(_, rest)| rest)
        .split(['/', ':', '?'])
        .next()
        .unwrap_or_default();
    let local = ["127.", "10.", "192.168.", "169.254.", "0."]
        .iter()
        .any(|prefix| host.starts_with(prefix))
        || host == "localhost";
    let reason = if local {
        "Media URL address is blacklisted".to_owned()
    } else {
        format!("Cannot connect to host {host}:80 ssl:default [Name or service not known]")
    };
    format!(
        "<class 'infinity_emb.primitives.ImageCorruption'> -> error opening an image in your request image from url: {reason}"
    )
}

impl Opened {
    /// The number the true server counts as usage: the length of a printed picture, not of the data URI.
    pub(crate) fn usage(&self) -> usize {
        29 + 5 * self.height as usize
    }

    /// Decodes all of it; `None` is what the worker dies of.
    pub(crate) fn decode(&self, kind: Kind) -> Option<RgbImage> {
        let (short, long) = (self.width.min(self.height), self.width.max(self.height));
        if kind == Kind::ColQwen2 && long > short * QWEN_MAX_RATIO {
            return None;
        }
        // Decoders of JPEG fill a cut picture with grey; Pillow does not, and neither may the mock.
        if self.bytes.starts_with(&[0xff, 0xd8])
            && !self.bytes.windows(2).any(|pair| pair == [0xff, 0xd9])
        {
            return None;
        }
        let mut reader = ImageReader::new(Cursor::new(&self.bytes))
            .with_guessed_format()
            .ok()?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(1 << 31);
        reader.limits(limits);
        reader.decode().ok().map(DynamicImage::into_rgb8)
    }
}

/// Columns and rows of patches that a picture is cut into.
pub(crate) fn grid(kind: Kind, image_patches: usize, width: u32, height: u32) -> (u32, u32) {
    if kind != Kind::ColQwen2 {
        let side = image_patches.isqrt() as u32;
        return (side, side);
    }
    let (width, height) = (f64::from(width), f64::from(height));
    let mut columns = (width / QWEN_EDGE).round_ties_even();
    let mut rows = (height / QWEN_EDGE).round_ties_even();
    let pixels = columns * rows * QWEN_EDGE * QWEN_EDGE;
    if pixels > QWEN_MAX_PIXELS {
        let shrink = (width * height / QWEN_MAX_PIXELS).sqrt();
        columns = (width / shrink / QWEN_EDGE).floor();
        rows = (height / shrink / QWEN_EDGE).floor();
    } else if pixels < QWEN_MIN_PIXELS {
        let grow = (QWEN_MIN_PIXELS / (width * height)).sqrt();
        columns = (width * grow / QWEN_EDGE).ceil();
        rows = (height * grow / QWEN_EDGE).ceil();
    }
    (columns.max(1.0) as u32, rows.max(1.0) as u32)
}

/// One vector per patch, row by row of the grid, appended to `values`.
pub(crate) fn embed(
    picture: &RgbImage,
    grid: (u32, u32),
    lexicon: &Lexicon,
    values: &mut Vec<f32>,
) {
    let (columns, rows) = grid;
    let small = shrink(picture, columns * SAMPLES, rows * SAMPLES);
    for row in 0..rows {
        for column in 0..columns {
            let look = Look::at(&small, column * SAMPLES, row * SAMPLES);
            values.extend_from_slice(&look.vector(lexicon));
        }
    }
}

/// Box-averages a picture to a size, from at most `LOOKS` squared of its pixels for each of the new ones: the cost depends
/// on the new size only.
fn shrink(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    let places = |place: u32, size: u32, from: u32| {
        let begin = u64::from(place) * u64::from(from) / u64::from(size);
        let end = u64::from(place + 1) * u64::from(from) / u64::from(size);
        let span = (end - begin).max(1);
        let looks = span.min(LOOKS);
        (0..looks).map(move |look| (begin + (2 * look + 1) * span / (2 * looks)) as u32)
    };
    RgbImage::from_fn(width, height, |x, y| {
        let (mut sums, mut count) = ([0u32; 3], 0);
        for from_y in places(y, height, picture.height()) {
            for from_x in places(x, width, picture.width()) {
                let pixel = picture.get_pixel(from_x, from_y).0;
                (0..3).for_each(|channel| sums[channel] += u32::from(pixel[channel]));
                count += 1;
            }
        }
        image::Rgb(sums.map(|sum| (sum / count) as u8))
    })
}

/// What a patch looks like: mean colour, slope to the right and downwards, roughness; all between -1 and 1.
struct Look {
    colour: [f32; 3],
    slope: [f32; 2],
    roughness: f32,
}

impl Look {
    fn at(small: &RgbImage, left: u32, top: u32) -> Self {
        let count = (SAMPLES * SAMPLES) as f32;
        let (mut colour, mut slope, mut squares, mut sum) = ([0.0; 3], [0.0; 2], 0.0, 0.0);
        for y in 0..SAMPLES {
            for x in 0..SAMPLES {
                let pixel = small
                    .get_pixel(left + x, top + y)
                    .0
                    .map(|c| f32::from(c) / 255.0);
                let light = pixel.iter().sum::<f32>() / 3.0;
                add(&mut colour, &pixel, 1.0 / count);
                slope[0] += if x < SAMPLES / 2 { -light } else { light };
                slope[1] += if y < SAMPLES / 2 { -light } else { light };
                squares += light * light;
                sum += light;
            }
        }
        let variance = (squares / count - (sum / count).powi(2)).max(0.0);
        Self {
            colour,
            slope: slope.map(|slope| 2.0 * slope / count),
            roughness: 2.0 * variance.sqrt(),
        }
    }

    fn vector(&self, lexicon: &Lexicon) -> Vec<f32> {
        let mut vector = vec![0.0; lexicon.dim()];
        for (name, colour) in COLOURS {
            let distance: f32 = colour
                .iter()
                .zip(self.colour)
                .map(|(a, b)| (a - b).powi(2))
                .sum();
            let word = lexicon.vector(name);
            add(
                &mut vector,
                &word,
                (-8.0 * distance).exp() / lexicon.norm(name),
            );
        }
        let features = [
            ("[red share]", self.colour[0] - 0.5),
            ("[green share]", self.colour[1] - 0.5),
            ("[blue share]", self.colour[2] - 0.5),
            ("[slope right]", self.slope[0]),
            ("[slope down]", self.slope[1]),
            ("[roughness]", self.roughness),
        ];
        for (name, weight) in features {
            add(
                &mut vector,
                &lexicon.vector(name),
                weight / lexicon.norm(name),
            );
        }
        scale(&mut vector, lexicon.norm("[patch]"));
        vector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colqwen2_cuts_pictures_as_measured_on_the_true_one() {
        let patches = |width, height| {
            let (columns, rows) = grid(Kind::ColQwen2, 0, width, height);
            columns * rows
        };
        assert_eq!(patches(64, 64), 4);
        assert_eq!(patches(300, 200), 77);
        assert_eq!(patches(20, 60), 8);
        assert_eq!(patches(9000, 9000), 729);
        assert!(patches(900, 7) >= 4);
    }

    #[test]
    fn shrinking_averages_every_part_of_a_picture_of_any_size() {
        for (width, height) in [(3, 3), (64, 48), (999, 1501)] {
            let half = RgbImage::from_fn(width, height, |x, _| {
                image::Rgb([if x * 2 < width { 10 } else { 210 }, 7, 0])
            });
            let small = shrink(&half, 8, 8);
            assert_eq!(small.get_pixel(0, 5).0, [10, 7, 0]);
            assert_eq!(small.get_pixel(7, 0).0, [210, 7, 0]);
        }
    }

    #[test]
    fn other_kinds_have_a_fixed_number_of_patches() {
        assert_eq!(grid(Kind::ColPali, 1024, 300, 200), (32, 32));
        assert_eq!(grid(Kind::ColBert, 64, 5, 2000), (8, 8));
    }
}
