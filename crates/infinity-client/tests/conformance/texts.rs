//! Texts: what comes back for them, alone, in batches and beside other people's.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use infinity_client::{
    BlockingWait, Client, Encoding, Error, MAX_TEXT_CHARS, MAX_TEXTS_PER_REQUEST, Wait,
};

use crate::{CLIENT, Kind, assert_same, distance, norms, score, served, served_if, texts};

/// Texts of many lengths, no two alike.
fn mixed(count: usize) -> Vec<String> {
    (0..count)
        .map(|i| format!("{i} and {}", "more words ".repeat(i * 5 % 37)))
        .collect()
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[test]
fn base64_and_float_give_the_same_vectors() {
    let Some(served) = served() else { return };
    let float = served.with(|config| config.encoding = Encoding::Float);
    let inputs = ["hi", "what is late interaction?", ""];
    let both = served
        .texts(&inputs)
        .into_iter()
        .zip(texts(&float, &inputs));
    for ((base64, float), input) in both.zip(inputs) {
        assert_same(&base64, &float, input);
    }
}

#[test]
fn batches_in_flight_at_once_come_back_complete_and_in_order() {
    let Some(served) = served() else { return };
    let inputs = mixed(31);
    let inputs = borrowed(&inputs);
    let config = served.with(|config| {
        config.batch_size = 4;
        config.max_concurrency = 3;
    });
    let together = texts(&config, &inputs);
    assert_eq!(together.len(), inputs.len());
    for (embedding, input) in together.iter().zip(&inputs) {
        assert_same(embedding, &served.text(input), input);
    }
}

#[test]
fn more_texts_than_one_request_takes_are_spread_over_two() {
    let Some(served) = served() else { return };
    let inputs: Vec<String> = (0..=MAX_TEXTS_PER_REQUEST).map(|i| i.to_string()).collect();
    let config = served.with(|config| config.batch_size = usize::MAX);
    let all = texts(&config, &borrowed(&inputs));
    assert_eq!(all.len(), inputs.len());
    for index in [0, 1000, MAX_TEXTS_PER_REQUEST] {
        assert_same(&all[index], &served.text(&inputs[index]), &inputs[index]);
    }
}

#[test]
fn a_text_has_the_same_rows_alone_and_beside_longer_ones() {
    let Some(served) = served() else { return };
    let alone = served.text("hi");
    let longer = "the quick brown fox jumps over the lazy dog ".repeat(20);
    let mut inputs = vec![&longer[..]; 8];
    for place in [0, 7] {
        inputs[place] = "hi";
        let beside = served.texts(&inputs);
        assert_same(&beside[place], &alone, "in one request");
        inputs[place] = &longer;
    }
    // Other clients' requests get into the server's batches too.
    let done = AtomicBool::new(false);
    let load = served.with(|config| config.batch_size = 3);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let client = Client::new();
                while !done.load(Ordering::Relaxed) {
                    let inputs = vec![longer.clone(); 6];
                    client
                        .embed_texts(&load, inputs, &mut BlockingWait)
                        .unwrap();
                }
            });
        }
        let amid = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..12 {
                assert_same(&served.text("hi"), &alone, "amid other load");
            }
        }));
        done.store(true, Ordering::Relaxed);
        amid.unwrap_or_else(|panic| resume_unwind(panic));
    });
}

#[test]
fn rows_are_as_long_as_the_model_makes_them_and_of_length_one_when_asked_for() {
    let Some(served) = served() else { return };
    let raw = served.text("how long is a row?");
    let normalised = served.with(|config| config.normalize = true);
    let scaled = &texts(&normalised, &["how long is a row?"])[0];
    let is_one = |norm: &f32| (norm - 1.0).abs() < 1e-3;
    assert!(norms(scaled).iter().all(is_one));
    assert_eq!(
        norms(&raw).iter().all(is_one),
        served.kind.is_normalised(),
        "{:?}",
        norms(&raw)
    );
    let mut expected = raw.clone();
    for (row, norm) in expected.values.chunks_mut(raw.dim).zip(norms(&raw)) {
        row.iter_mut().for_each(|value| *value /= norm);
    }
    assert_same(scaled, &expected, "another direction");
}

#[test]
fn a_paraphrase_finds_its_text() {
    let Some(served) = served_if(Kind::understands) else {
        return;
    };
    let normalised = served.with(|config| config.normalize = true);
    let pairs = [
        (
            "The cat sleeps on the warm sofa.",
            "a pet dozing on a couch",
        ),
        (
            "Interest rates were raised by the central bank.",
            "borrowing money became more expensive",
        ),
        (
            "Plants turn sunlight into sugar.",
            "how does photosynthesis work?",
        ),
        (
            "The train to Berlin is delayed by an hour.",
            "late railway service in Germany",
        ),
        (
            "Vaccines train the immune system.",
            "protection against infectious disease",
        ),
        (
            "The recipe needs flour, eggs and butter.",
            "ingredients for baking a cake",
        ),
        ("The goalkeeper saved the penalty.", "a football match"),
        (
            "The telescope photographed a distant galaxy.",
            "astronomy observations of stars",
        ),
    ];
    let documents = texts(&normalised, &pairs.map(|(document, _)| document));
    for (query, (document, paraphrase)) in texts(&normalised, &pairs.map(|(_, query)| query))
        .iter()
        .zip(pairs)
    {
        let scores: Vec<f32> = documents.iter().map(|rows| score(rows, query)).collect();
        let best = (0..pairs.len())
            .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
            .unwrap();
        assert_eq!(pairs[best].0, document, "for {paraphrase:?}: {scores:?}");
    }
}

#[test]
fn white_space_around_a_text_does_not_count_and_an_empty_text_is_legal() {
    let Some(served) = served() else { return };
    let found = served.texts(&["", "   ", "\n\t\u{3000}", "word", " word\r\n"]);
    assert!(found[0].tokens > 0);
    assert_same(&found[0], &found[1], "spaces");
    assert_same(&found[0], &found[2], "other white space");
    assert_same(&found[3], &found[4], "around a word");
}

#[test]
fn characters_of_all_kinds_arrive() {
    let Some(served) = served() else { return };
    let inputs = [
        "日本語の文章",
        "שלום עולם",
        "e\u{301} and \u{e9}",
        "🎈👩\u{200d}🚀",
        "quote \" backslash \\ slash / newline \n tab \t",
        "nul \0 bell \u{7} escape \u{1b} delete \u{7f}",
        "\u{feff}byte order mark \u{2028} line separator",
        "\u{10ffff} the last one",
        "<|image_pad|><|vision_start|><image><bos></s>[CLS][MASK]",
    ];
    let together = served.texts(&inputs);
    for (embedding, input) in together.iter().zip(inputs) {
        assert_same(embedding, &served.text(input), input);
    }
    for (index, left) in together.iter().enumerate() {
        for right in &together[index + 1..] {
            assert!(distance(left, right) > 1e-3, "two texts alike");
        }
    }
    if served.kind.understands() {
        // This tokenizer drops accents: the bytes arrived as the characters they are.
        assert_same(
            &served.text("Café naïve"),
            &served.text("cafe naive"),
            "accents",
        );
    }
    served.assert_alive();
}

#[test]
fn the_longest_text_is_taken_and_one_character_more_is_not() {
    let Some(served) = served() else { return };
    // White space inside counts as characters but hardly as tokens: true ColQwen2 and ColPali cut nothing off.
    let of_length = |chars: usize| format!("ä{}é", " ".repeat(chars - 2));
    let longest = of_length(MAX_TEXT_CHARS);
    let around = format!("\n {longest} \t");
    let inputs = vec![
        longest,
        of_length(MAX_TEXT_CHARS + 1),
        around,
        String::from("short"),
    ];
    let outcomes = CLIENT
        .embed_texts(&served.config, inputs, &mut BlockingWait)
        .unwrap();
    let expected = Error::TextTooLong {
        index: 1,
        chars: MAX_TEXT_CHARS + 1,
        limit: MAX_TEXT_CHARS,
    };
    assert_eq!(outcomes[1], Err(expected));
    let taken = |index: usize| outcomes[index].as_ref().unwrap();
    println!("{} rows for the longest text", taken(0).tokens);
    assert_same(taken(0), taken(2), "with white space around it");
    assert_same(taken(3), &served.text("short"), "beside the longest");
}

/// Leaves the call as PostgreSQL's cancel does.
struct Impatient;

impl Wait for Impatient {
    fn wait(&mut self, _: std::os::fd::BorrowedFd<'_>) {
        resume_unwind(Box::new("cancelled"));
    }
}

#[test]
fn calls_that_were_cancelled_or_timed_out_leave_a_working_server() {
    let Some(served) = served() else { return };
    let inputs = vec!["a rather long text ".repeat(40); 16];
    for _ in 0..5 {
        let call = || CLIENT.embed_texts(&served.config, inputs.clone(), &mut Impatient);
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    }
    served.assert_alive();
    // Timed out, or nothing answered the one-word request either: the server was given no time at all.
    let hasty = served.with(|config| config.timeout = Duration::from_millis(5));
    let error = CLIENT
        .embed_texts(&hasty, inputs, &mut BlockingWait)
        .unwrap_err();
    assert!(
        matches!(error, Error::TimedOut { .. } | Error::Wedged { .. }),
        "{error:?}"
    );
    served.assert_alive();
}
