//! The vectors mean something, and the same thing everywhere: rankings by shared words and by colours, equal answers of
//! two servers, the jitter.

mod client;

use client::{data_uri, embed, encoded, picture, png, serve};
use image::{ImageFormat, Rgb, RgbImage};
use mock_infinity::Model;

fn maxsim(query: &[Vec<f32>], document: &[Vec<f32>]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    query
        .iter()
        .map(|query| {
            document
                .iter()
                .map(|row| dot(query, row))
                .fold(f32::MIN, f32::max)
        })
        .sum()
}

/// Place of the document with the highest score.
fn best(query: &[Vec<f32>], documents: &[Vec<Vec<f32>>]) -> usize {
    let scores: Vec<f32> = documents
        .iter()
        .map(|document| maxsim(query, document))
        .collect();
    (0..scores.len())
        .max_by(|a, b| scores[*a].total_cmp(&scores[*b]))
        .unwrap()
}

const DOCUMENTS: [&str; 4] = [
    "PostgreSQL keeps deleted rows until vacuum removes them",
    "A bicycle needs oil on its chain after riding in the rain",
    "Late interaction keeps one vector for every token of a text",
    "The bread is baked with rye flour and sourdough",
];

#[test]
fn maxsim_ranks_texts_by_their_shared_words_in_every_kind() {
    for model in [
        Model::lite("m"),
        Model::colbert("m").with_dim(128),
        Model::colqwen2("m"),
        Model::colpali("m"),
    ] {
        let server = serve(model);
        let documents = embed(&server, "text", &DOCUMENTS, 128);
        let queries = [
            "when are deleted rows removed",
            "oil for a chain",
            "vectors per token",
            "baking bread with flour",
        ];
        for (place, query) in queries.iter().enumerate() {
            let query = &embed(&server, "text", &[query], 128)[0];
            assert_eq!(best(query, &documents), place, "{}", queries[place]);
        }
    }
}

fn plain(red: u8, green: u8, blue: u8) -> String {
    let page = RgbImage::from_pixel(80, 60, Rgb([red, green, blue]));
    data_uri(&encoded(&page, ImageFormat::Png))
}

#[test]
fn a_word_of_colour_finds_the_picture_of_that_colour() {
    for model in [Model::lite("m"), Model::colqwen2("m"), Model::colpali("m")] {
        let server = serve(model);
        let pages = [
            plain(250, 5, 5),
            plain(5, 160, 5),
            plain(0, 0, 240),
            plain(255, 255, 255),
        ];
        let pages: Vec<&str> = pages.iter().map(String::as_str).collect();
        let pages = embed(&server, "image", &pages, 128);
        for (place, word) in ["red", "green", "blue", "white"].iter().enumerate() {
            let query = &embed(&server, "text", &[word], 128)[0];
            assert_eq!(best(query, &pages), place, "{word}");
        }
    }
}

#[test]
fn a_picture_finds_itself_after_being_encoded_again_with_losses() {
    let server = serve(Model::lite("m"));
    let photograph = picture(200, 150);
    let others = [
        png(150, 200),
        plain(90, 90, 90),
        data_uri(&encoded(
            &image::imageops::rotate180(&photograph),
            ImageFormat::Png,
        )),
    ];
    let again = data_uri(&encoded(&photograph, ImageFormat::Jpeg));
    let mut pages: Vec<&str> = others.iter().map(String::as_str).collect();
    pages.push(&again);
    let pages = embed(&server, "image", &pages, 128);
    let query = &embed(&server, "image", &[&png(200, 150)], 128)[0];
    assert_eq!(best(query, &pages), 3);
}

#[test]
fn two_servers_give_equal_bytes_and_a_batch_moves_them_by_a_millionth() {
    for model in [
        Model::colbert("m").with_dim(128),
        Model::colqwen2("m"),
        Model::colpali("m"),
        Model::lite("m"),
    ] {
        let (one, other) = (serve(model.clone()), serve(model));
        let alone = embed(&one, "text", &["late interaction"], 128);
        assert_eq!(alone, embed(&other, "text", &["late interaction"], 128));
        assert_eq!(alone, embed(&one, "text", &["late interaction"], 128));
        let company = embed(&one, "text", &["late interaction", "retrieval models"], 128);
        assert_eq!(
            company,
            embed(
                &other,
                "text",
                &["late interaction", "retrieval models"],
                128
            )
        );
        let (alone, company) = (alone[0].concat(), company[0].concat());
        assert_ne!(alone, company, "the values depend on the batch");
        let off = alone
            .iter()
            .zip(&company)
            .map(|(a, b)| ((a - b) / a).abs())
            .fold(0.0, f32::max);
        assert!(off < 3e-6, "{off}");
    }
    let (one, other) = (serve(Model::colqwen2("m")), serve(Model::colqwen2("m")));
    let page = png(120, 90);
    assert_eq!(
        embed(&one, "image", &[&page], 128),
        embed(&other, "image", &[&page], 128)
    );
}
