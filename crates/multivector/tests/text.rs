//! Text input and output: what round-trips, what is taken, and each refusal with its position.

mod strategies;

use multivector::{
    ElementType, Error, MAX_DIM, Shape, View, convert, encode, normalize, pool, slice, text,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use strategies::{component, element, print, read, rows, rows_of};

/// Input, then output.
fn echo(input: &str) -> String {
    let bytes = read(input).unwrap();
    print(View::parse(&bytes).unwrap()).unwrap()
}

/// Text → value → text and value → text → value, exactly.
fn check_round_trip(bytes: &[u8]) -> Result<(), TestCaseError> {
    let printed = print(View::parse(bytes).unwrap()).unwrap();
    prop_assert_eq!(&read(&printed).unwrap(), bytes);
    prop_assert_eq!(echo(&printed), printed);
    Ok(())
}

proptest! {
    #![proptest_config(strategies::config())]

    /// Dump and restore: text of any element type reads back as the same bytes.
    #[test]
    fn printed_values_read_back_as_the_same_bytes((shape, values) in rows(), element in element()) {
        check_round_trip(&encode(&values, shape, element, &mut || ()).unwrap())?;
    }

    #[test]
    fn what_functions_make_reads_back_as_the_same_bytes((shape, values) in rows(), element in element(), other in element(),
        tokens in 1usize..8) {
        let bytes = encode(&values, shape, element, &mut || ()).unwrap();
        let view = View::parse(&bytes).unwrap();
        check_round_trip(&slice(view, 0..tokens.min(shape.tokens()), &mut || ()).unwrap())?;
        check_round_trip(&slice(view, shape.tokens() - 1..shape.tokens(), &mut || ()).unwrap())?;
        check_round_trip(&normalize(view, &mut || ()).unwrap())?;
        check_round_trip(&pool(view, 2, &mut || ()).unwrap())?;
        if let Ok(converted) = convert(view, other, &mut || ()) {
            check_round_trip(&converted)?;
        }
    }

    /// Bit takes most magnitudes, int8 and f32 all of them.
    #[test]
    fn extreme_values_read_back_as_the_same_bytes((shape, values) in rows_of(component().boxed()), element in element()) {
        if let Ok(bytes) = encode(&values, shape, element, &mut || ()) {
            check_round_trip(&bytes)?;
        }
    }

    #[test]
    fn every_f32_is_printed_exactly((shape, values) in rows_of(component().boxed())) {
        let bytes = encode(&values, shape, ElementType::F32, &mut || ()).unwrap();
        let printed = print(View::parse(&bytes).unwrap()).unwrap();
        prop_assert_eq!(read(&printed).unwrap(), bytes);
    }

    #[test]
    fn white_space_and_braces_change_nothing((shape, values) in rows(), space in "[ \t\n\r\x0B\x0C]{0,3}") {
        let bytes = encode(&values, shape, ElementType::F32, &mut || ()).unwrap();
        let printed = print(View::parse(&bytes).unwrap()).unwrap();
        let mut spaced = space.clone();
        for part in printed.split_inclusive(['[', ']', ',']) {
            let (number, delimiter) = part.split_at(part.len() - 1);
            spaced.extend([number, &space, delimiter, &space]);
        }
        prop_assert_eq!(&read(&spaced).unwrap(), &bytes);
        let braces = spaced.replace('[', "{").replace(']', "}");
        prop_assert_eq!(&read(&braces).unwrap(), &bytes);
    }

    #[test]
    fn no_text_panics(input in "[\\[\\]{},. 0-9eE+\\-naifulNI\u{0}é]{0,40}", any in any::<String>()) {
        for input in [&input, &any, &format!("bit:{input}")] {
            if let Ok(bytes) = read(input) {
                prop_assert_eq!(read(&echo(input)).unwrap(), bytes);
            }
        }
    }
}

#[test]
fn numbers_are_taken_in_every_usual_spelling() {
    assert_eq!(echo("[[1,2],[3,4]]"), "[[1,2],[3,4]]");
    assert_eq!(
        echo("[[+1.50,-.5,5.,1e3,1E-7]]"),
        "[[1.5,-0.5,5,1000,1e-07]]"
    );
    assert_eq!(
        echo("[[-0,0.1,16777217,1e38]]"),
        "[[0,0.1,1.6777216e+07,1e+38]]"
    );
    assert_eq!(echo("[[1e-400]]"), "[[0]]", "what is too small is zero");
    assert_eq!(echo("[[7]]"), "[[7]]");
}

#[test]
fn compact_element_types_print_what_they_decode_to() {
    for (element, printed) in [
        (ElementType::F16, "[[0.099975586,1],[-2,0]]"),
        (ElementType::Int8, "[[0.1023622,1],[-2,0]]"),
    ] {
        let text = format!("{element}:[[0.1,1],[-2,0]]");
        assert_eq!(echo(&text), format!("{element}:{printed}"));
    }
}

#[test]
fn element_types_are_named_whatever_the_case_and_the_space_after() {
    for (input, printed) in [
        ("f32:[[1,2]]", "[[1,2]]"),
        (" F16:[[1,2]]", "f16:[[1,2]]"),
        ("Int8: {{1,2}}", "int8:[[1.007874,2]]"),
        ("\tbit:\n[[1,1]]", "bit:[[1.0000002,1.0000002]]"),
    ] {
        assert_eq!(echo(input), printed, "{input}");
    }
}

#[test]
fn reading_polls_as_long_as_the_text_is() {
    let spaces = " ".repeat(1 << 20);
    let row = "1,".repeat(999);
    let rows = format!("[[{row}1]{}]", format!(",[{row}1]").repeat(999));
    let digits = format!("[[0.{}]]", "1".repeat(1 << 20));
    for text in [format!("[[1{spaces}]]"), rows, spaces] {
        let mut polls = 0;
        let _ = text::parse(text.as_bytes(), &mut || polls += 1);
        assert!(polls >= text.len() >> 16, "{polls} of {}", text.len());
    }
    let error = read(&digits).unwrap_err();
    assert!(matches!(error, Error::Syntax { .. }), "{error}");
}

#[test]
fn refusals_say_where() {
    for (input, message) in [
        ("", "expected \"[\" at character 1, where the text ends"),
        (
            "f8:[[1]]",
            "expected \"[\", \"f16:\", \"int8:\" or \"bit:\" at character 1, not \"f8:\"",
        ),
        (
            "f16[[1]]",
            "expected \"[\", \"f16:\", \"int8:\" or \"bit:\" at character 1, not \"f16\"",
        ),
        (
            "f16 :[[1]]",
            "expected \"[\", \"f16:\", \"int8:\" or \"bit:\" at character 1, not \"f16\"",
        ),
        ("f16:", "expected \"[\" at character 5, where the text ends"),
        (
            "f16:f16:[[1]]",
            "expected \"[\" at character 5, not \"f16:\"",
        ),
        (
            "f16:[[1e5]]",
            "1e5 of token 1 is out of range for element type f16",
        ),
        ("  ", "expected \"[\" at character 3, where the text ends"),
        ("1", "expected \"[\" at character 1, not \"1\""),
        ("[1,2]", "expected \"[\" at character 2, not \"1\""),
        (
            "[[1,2]",
            "expected \",\" or \"]\" at character 7, where the text ends",
        ),
        (
            "[[1,2],",
            "expected \"[\" at character 8, where the text ends",
        ),
        ("[[1,2],]", "expected \"[\" at character 8, not \"]\""),
        ("[[1,,2]]", "expected a number at character 5, not \",\""),
        ("[[1,]]", "expected a number at character 5, not \"]\""),
        (
            "[[1 2]]",
            "expected \",\" or \"]\" at character 5, not \"2\"",
        ),
        ("[[1,abc]]", "expected a number at character 5, not \"abc\""),
        ("[[0x10]]", "expected a number at character 3, not \"0x10\""),
        (
            "[[1]] x",
            "expected the end of the text at character 7, not \"x\"",
        ),
        ("[[1]}", "expected \",\" or \"]\" at character 5, not \"}\""),
        ("{[1]}", "expected \"{\" at character 2, not \"[\""),
        ("{{1}]", "expected \",\" or \"}\" at character 5, not \"]\""),
        ("[[é]]", "expected a number at character 3, not \"é\""),
        (
            "[[1,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]]",
            "expected a number at character 5, not \"aaaaaaaaaaaaaaaaaaaaaaaa…\"",
        ),
        (
            "[[1e39]]",
            "\"1e39\" at character 3 is out of range for type real",
        ),
        (
            "[[1,-4e38]]",
            "\"-4e38\" at character 5 is out of range for type real",
        ),
        (
            "{{1,NULL}}",
            "null not allowed in multivector: at character 5",
        ),
        ("[]", "multivector must have at least 1 token"),
        ("{ }", "multivector must have at least 1 token"),
        ("[[]]", "token vectors must have at least 1 dimension"),
        (
            "[[1,2],[3]]",
            "token 2 has 1 dimensions, those before it have 2",
        ),
        (
            "[[1],[2,3]]",
            "token 2 has 2 dimensions, those before it have 1",
        ),
        (
            "[[1,NaN]]",
            "NaN not allowed in multivector: component 2 of token 1",
        ),
        (
            "[[1],[Infinity]]",
            "infinity not allowed in multivector: component 1 of token 2",
        ),
        (
            "[[-inf]]",
            "-infinity not allowed in multivector: component 1 of token 1",
        ),
    ] {
        let error = read(input).unwrap_err();
        assert_eq!(error.to_string(), message, "{input}");
    }
}

#[test]
fn limits_stop_the_reading_where_they_are_crossed() {
    let row = format!("[[{}1]]", "1,".repeat(MAX_DIM));
    assert_eq!(read(&row), Err(Error::TooManyDims { dim: 16_001 }));
    let most = format!("[[{}1]]", "1,".repeat(MAX_DIM - 1));
    assert_eq!(View::parse(&read(&most).unwrap()).unwrap().dim(), MAX_DIM);
    let tokens = format!("[{}[1]]", "[1],".repeat(32_768));
    assert_eq!(read(&tokens), Err(Error::TooManyTokens { tokens: 32_769 }));
}

#[test]
fn corrupt_values_are_not_printed() {
    let shape = Shape::new(1, 1).unwrap();
    let mut bytes = encode(&[1.0], shape, ElementType::F32, &mut || ()).unwrap();
    bytes[12..].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = print(View::parse(&bytes).unwrap()).unwrap_err();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
}
