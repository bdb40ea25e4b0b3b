//! From an image file as somebody uploaded it to the data URI that is sent: decoded, checked and re-encoded.
//!
//! One bad image kills the server's worker for good (truncated JPEG, PNG or GIF, a PNG with a bad checksum, a ratio of the
//! sides above 200), so nothing goes out that has not been decoded here. Not obvious: decoders are lenient and fill what
//! a truncated JPEG lacks with grey, so `complete` walks the file's own structure to its end first.
//!
//! What is sent is RGB on white, upright, never resized (a picture of three rows gets a fourth): JPEG of quality 95, or PNG when the source was lossless and
//! small, where JPEG would blur letters and save nothing.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{
    DynamicImage, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageReader, Limits,
    RgbImage,
};

use crate::config::{MAX_IMAGE_RATIO, MIN_IMAGE_SIDE};
use crate::error::{ImageProblem, one_line};

mod complete;
mod guess;

/// Rows that are taken for channels.
const AMBIGUOUS_HEIGHT: u32 = 3;
/// Quality of the JPEG that is sent: no loss that a vision model's 28-pixel patches could see.
const JPEG_QUALITY: u8 = 95;
/// Up to this many pixels a lossless source stays lossless.
const MAX_LOSSLESS_PIXELS: u64 = 512 * 512;
/// The longest side that JPEG can have.
const MAX_JPEG_SIDE: u32 = 65_535;
/// What decoding may take per allowed pixel: four channels of 32 bits at the most.
const DECODED_BYTES_PER_PIXEL: u64 = 16;
/// What decoding may take beside the pixels: tables and row buffers.
const DECODER_OVERHEAD_BYTES: u64 = 64 << 20;

/// Decodes, checks and re-encodes an image file.
///
/// # Errors
/// Why the image is not sent.
pub(crate) fn data_uri(file: &[u8], max_pixels: u64) -> Result<String, ImageProblem> {
    let (picture, lossless) = decode(file, max_pixels)?;
    let (mime, bytes) = encode(&picture, lossless)?;
    let mut uri = format!("data:image/{mime};base64,");
    STANDARD.encode_string(bytes, &mut uri);
    Ok(uri)
}

/// The picture, upright, RGB on white, and whether its file kept every pixel as it was.
fn decode(file: &[u8], max_pixels: u64) -> Result<(RgbImage, bool), ImageProblem> {
    let unknown = || ImageProblem::NotRecognised {
        bytes: file.len(),
        looks_like: guess::what_it_is(file),
    };
    let format = image::guess_format(file).map_err(|_| unknown())?;
    let name = name_of(format).ok_or_else(unknown)?;
    let problem = |error| problem_of(error, name);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(
        max_pixels
            .saturating_mul(DECODED_BYTES_PER_PIXEL)
            .saturating_add(DECODER_OVERHEAD_BYTES),
    );
    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(problem)?;
    let (width, height) = decoder.dimensions();
    check_sides(width, height, max_pixels)?;
    if !complete::reaches_its_end(format, file) {
        return Err(ImageProblem::Truncated { format: name });
    }
    let orientation = decoder.orientation().map_err(problem)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(problem)?;
    picture.apply_orientation(orientation);
    let lossless = !matches!(format, ImageFormat::Jpeg | ImageFormat::WebP);
    Ok((with_a_fourth_row(on_white(picture)), lossless))
}

/// Holds the sides the header tells to the bounds, before anything is decoded.
fn check_sides(width: u32, height: u32, max_pixels: u64) -> Result<(), ImageProblem> {
    let (short, long) = (width.min(height), width.max(height));
    if short < MIN_IMAGE_SIDE {
        return Err(ImageProblem::TooSmall { width, height });
    }
    if u64::from(width) * u64::from(height) > max_pixels {
        return Err(ImageProblem::TooManyPixels {
            width,
            height,
            limit: max_pixels,
        });
    }
    if u64::from(long) > u64::from(short) * u64::from(MAX_IMAGE_RATIO) {
        return Err(ImageProblem::TooElongated { width, height });
    }
    Ok(())
}

/// Transparent parts become white, as on paper.
fn on_white(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let rgba = picture.into_rgba8();
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in rgb.pixels_mut().zip(rgba.pixels()) {
        let [colour @ .., alpha] = from.0;
        let alpha = u32::from(alpha);
        to.0 = colour
            .map(|value| ((u32::from(value) * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    rgb
}

/// The models' processors take three rows for three channels: they misread such a picture and, when it comes first in a
/// batch, the pictures behind it as well, of which ColPali's worker dies. So the last row is repeated.
fn with_a_fourth_row(picture: RgbImage) -> RgbImage {
    if picture.height() != AMBIGUOUS_HEIGHT {
        return picture;
    }
    RgbImage::from_fn(picture.width(), AMBIGUOUS_HEIGHT + 1, |x, y| {
        *picture.get_pixel(x, y.min(AMBIGUOUS_HEIGHT - 1))
    })
}

fn encode(picture: &RgbImage, lossless: bool) -> Result<(&'static str, Vec<u8>), ImageProblem> {
    let (width, height) = picture.dimensions();
    let small = u64::from(width) * u64::from(height) <= MAX_LOSSLESS_PIXELS;
    let mut bytes = Vec::new();
    let (mime, result) = if (lossless && small) || width.max(height) > MAX_JPEG_SIDE {
        let encoder = PngEncoder::new(&mut bytes);
        (
            "png",
            encoder.write_image(picture, width, height, image::ExtendedColorType::Rgb8),
        )
    } else {
        (
            "jpeg",
            JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY).encode_image(picture),
        )
    };
    result.map_err(|error| problem_of(error, "re-encoded"))?;
    Ok((mime, bytes))
}

/// The formats decoded here, by the names people know.
fn name_of(format: ImageFormat) -> Option<&'static str> {
    match format {
        ImageFormat::Jpeg => Some("JPEG"),
        ImageFormat::Png => Some("PNG"),
        ImageFormat::Gif => Some("GIF"),
        ImageFormat::WebP => Some("WebP"),
        ImageFormat::Bmp => Some("BMP"),
        ImageFormat::Tiff => Some("TIFF"),
        _ => None,
    }
}

fn problem_of(error: ImageError, format: &'static str) -> ImageProblem {
    match &error {
        ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
            ImageProblem::Truncated { format }
        }
        _ => ImageProblem::Corrupt {
            format,
            reason: one_line(&error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests;
