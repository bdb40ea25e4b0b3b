//! Names what bytes seem to be that are no image decoded here, so that the error can say it.

/// What the bytes look like, if that is easy to tell.
pub(super) fn what_it_is(file: &[u8]) -> Option<&'static str> {
    const BEGINNINGS: [(&[u8], &str); 13] = [
        (b"%PDF-", "a PDF document; render its pages to images first"),
        (b"\x00\x00\x01\x00", "a Windows icon"),
        (b"8BPS", "a Photoshop document"),
        (b"\xff\x0a", "a JPEG XL image"),
        (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
        (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
        (b"PK\x03\x04", "a ZIP archive or an Office document"),
        (b"\x1f\x8b", "a gzip file"),
        (b"data:", "a data URI; pass the decoded bytes"),
        (b"http://", "a URL; pass the bytes of the image"),
        (b"https://", "a URL; pass the bytes of the image"),
        (b"\\x", "bytes written in hexadecimal"),
        (b"%!PS", "a PostScript document"),
    ];
    if let Some((_, kind)) = BEGINNINGS
        .iter()
        .find(|(beginning, _)| file.starts_with(beginning))
    {
        return Some(kind);
    }
    if file.get(4..8) == Some(b"ftyp") {
        return match file.get(8..12)? {
            b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" => Some("a HEIC image"),
            b"avif" | b"avis" => Some("an AVIF image"),
            _ => Some("a video"),
        };
    }
    let text = String::from_utf8_lossy(&file[..file.len().min(1024)]).to_lowercase();
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if !text.starts_with('<') {
        None
    } else if text.contains("<svg") {
        Some("an SVG drawing; render it to an image first")
    } else if text.contains("<html") || text.contains("<!doctype html") {
        Some("an HTML page")
    } else {
        Some("an XML document")
    }
}
