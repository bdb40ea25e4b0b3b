//! The shortest decimal that reads back as the same f32, laid out as PostgreSQL's `real` output lays it out.
//!
//! Used by the text form. The digits are the standard library's (shortest that round-trips); only where the point goes
//! and when an exponent is written is decided here, so that a multivector prints like the `real[]` it was cast from.

use std::fmt::Write;

/// No number is longer: sign, nine digits, point, `e-38`.
pub(crate) const MAX_LEN: usize = 15;

/// Exponents from which PostgreSQL writes `1e+06` and below which `1e-05`.
const LARGE: i32 = 6;
const SMALL: i32 = -4;

/// Appends `value`, which is finite; `scratch` is memory to reuse.
pub(crate) fn push(out: &mut String, scratch: &mut String, value: f32) {
    scratch.clear();
    write!(scratch, "{value:e}").expect("writing to a string succeeds");
    let (mantissa, exponent) = scratch.split_once('e').expect("exponent form");
    let exponent: i32 = exponent.parse().expect("exponent is a number");
    let digits = match mantissa.strip_prefix('-') {
        Some(digits) => {
            out.push('-');
            digits
        }
        None => mantissa,
    };
    if !(SMALL..LARGE).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(out, "{digits}e{sign}{:02}", exponent.abs()).expect("writing to a string succeeds");
        return;
    }
    // One digit stands before the point of `digits`; move the point.
    let (first, rest) = digits.split_at(1);
    let rest = rest.trim_start_matches('.');
    if exponent < 0 {
        out.push_str("0.");
        (1..-exponent).for_each(|_| out.push('0'));
        out.push_str(first);
        out.push_str(rest);
        return;
    }
    let before = exponent.unsigned_abs() as usize;
    out.push_str(first);
    if rest.len() > before {
        out.push_str(&rest[..before]);
        out.push('.');
        out.push_str(&rest[before..]);
    } else {
        out.push_str(rest);
        (rest.len()..before).for_each(|_| out.push('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_LEN, push};
    use proptest::prelude::*;

    fn print(value: f32) -> String {
        let mut out = String::new();
        push(&mut out, &mut String::new(), value);
        out
    }

    /// What `SELECT value::real` prints in PostgreSQL 15.
    #[test]
    fn numbers_look_as_postgresql_prints_real() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (0.1, "0.1"),
            (10.0, "10"),
            (123456.0, "123456"),
            (100000.0, "100000"),
            (1e6, "1e+06"),
            (123456.79, "123456.79"),
            (1234567.0, "1.234567e+06"),
            (0.0001, "0.0001"),
            (-0.00012345, "-0.00012345"),
            (0.00001, "1e-05"),
            (f32::MAX, "3.4028235e+38"),
            (f32::MIN_POSITIVE, "1.1754944e-38"),
            (1e-45, "1e-45"),
            (16777216.0, "1.6777216e+07"),
            (1.0 / 3.0, "0.33333334"),
            (1e10, "1e+10"),
        ] {
            assert_eq!(print(value), text);
        }
    }

    proptest! {
        #[test]
        fn every_finite_number_reads_back_as_itself(bits in any::<u32>()) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = print(value);
            prop_assert!(text.len() <= MAX_LEN, "{}", text);
            prop_assert_eq!(text.parse::<f32>().unwrap().to_bits(), bits);
        }
    }
}
