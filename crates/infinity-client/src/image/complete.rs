//! Whether a JPEG, PNG or GIF file goes on to its own end, told by walking its structure without decoding it.
//!
//! Decoders are lenient about a missing end, and the server's worker dies of one. Bytes after the end are fine: cameras
//! append previews.

use image::ImageFormat;

/// Whether the file reaches the end marker of its format; formats whose decoder insists on every byte always do.
pub(super) fn reaches_its_end(format: ImageFormat, file: &[u8]) -> bool {
    match format {
        ImageFormat::Jpeg => jpeg(file).is_some(),
        ImageFormat::Png => png(file).is_some(),
        ImageFormat::Gif => gif(file).is_some(),
        _ => true,
    }
}

/// Segments carry their length; entropy-coded data follows a scan's header and ends at a marker that is no restart.
fn jpeg(file: &[u8]) -> Option<()> {
    const END_OF_IMAGE: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    loop {
        // A marker is 0xff, any number of fill bytes 0xff, and its code; anything before it is skipped, as decoders do.
        at += file.get(at..)?.iter().position(|byte| *byte == 0xff)?;
        at += file.get(at..)?.iter().position(|byte| *byte != 0xff)?;
        let marker = file[at];
        at += 1;
        match marker {
            END_OF_IMAGE => return Some(()),
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let length = u16::from_be_bytes(*file.get(at..)?.first_chunk()?);
                at += usize::from(length.max(2));
                if marker == START_OF_SCAN {
                    at += end_of_scan(file.get(at..)?)?;
                }
            }
        }
    }
}

/// Where the entropy-coded data ends: at a marker that is neither a stuffed zero nor a restart.
fn end_of_scan(data: &[u8]) -> Option<usize> {
    data.windows(2)
        .position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7 | 0xff))
}

/// Chunks carry their length; the last one is IEND.
fn png(file: &[u8]) -> Option<()> {
    let mut rest = file.get(8..)?;
    loop {
        let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
        let kind = rest.get(4..8)?;
        let after = rest.get(length.checked_add(12)?..)?;
        if kind == b"IEND" {
            return Some(());
        }
        rest = after;
    }
}

/// Blocks are chains of sub-blocks that carry their length; the first picture's data has to be whole, since only the
/// first is embedded, and what follows does not matter.
fn gif(file: &[u8]) -> Option<()> {
    let colour_table = |flags: u8| {
        if flags & 0x80 == 0 {
            0
        } else {
            3 << ((flags & 7) + 1)
        }
    };
    let mut rest = file.get(13 + colour_table(*file.get(10)?)..)?;
    loop {
        match *rest.first()? {
            0x21 => rest = after_sub_blocks(rest.get(2..)?)?,
            0x2c => {
                let data = rest.get(11 + colour_table(*rest.get(9)?)..)?;
                return after_sub_blocks(data).map(|_| ());
            }
            _ => return None,
        }
    }
}

/// What follows a chain of sub-blocks.
fn after_sub_blocks(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, after) = rest.split_first()?;
        if *length == 0 {
            return Some(after);
        }
        rest = after.get(usize::from(*length)..)?;
    }
}
