//! The project's bars on ranking, held against real data where it is present.

#[path = "../examples/bench/data.rs"]
mod data;
#[path = "../examples/bench/recall.rs"]
mod recall;

#[test]
fn compact_elements_rank_real_text_as_well_as_promised() {
    for agreement in recall::measure().unwrap() {
        let (best_10, of_best_100) = match agreement.element {
            "f16" => (0.999, 0.999),
            "int8" => (0.995, 0.999),
            _ => (0.80, 0.999),
        };
        let name = agreement.element;
        println!(
            "{name}: {:.4}, with its best 100 exact {:.4}",
            agreement.best_10, agreement.of_best_100
        );
        assert!(
            agreement.best_10 >= best_10,
            "{name}: {} of the best 10",
            agreement.best_10
        );
        assert!(
            agreement.of_best_100 >= of_best_100,
            "{name}: {} in the best 100",
            agreement.of_best_100
        );
    }
}
