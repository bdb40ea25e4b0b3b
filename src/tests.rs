//! Tests that run inside PostgreSQL (`cargo pgrx test`): what only the backend itself can see.

use pgrx::prelude::*;

#[pg_schema]
mod tests {
    use pgrx::{pg_sys, prelude::*};

    /// Bytes that the transaction's memory contexts hold.
    fn memory_bytes() -> usize {
        // SAFETY: a live memory context of this backend.
        unsafe { pg_sys::MemoryContextMemAllocated(pg_sys::TopTransactionContext, true) }
    }

    fn score(query: &str) -> f64 {
        Spi::get_one(query)
            .expect("the statement runs")
            .expect("the score is not NULL")
    }

    #[pg_test]
    fn detoasted_documents_are_freed_within_the_statement() {
        Spi::run(
            "CREATE TABLE documents AS
             SELECT array_agg(ARRAY[i, 1]::real[]) AS embedding FROM generate_series(1, 20000) i",
        )
        .expect("the table is made");
        Spi::run("INSERT INTO documents SELECT embedding FROM documents, generate_series(1, 99)")
            .expect("rows are copied");
        let one_document = 20_000 * 2 * size_of::<f32>();
        let before = memory_bytes();
        // One call of a function holds what its calls leave behind until it returns.
        Spi::run(
            "DO $$ DECLARE d real[]; s double precision; BEGIN
                 FOR d IN SELECT embedding FROM documents LOOP
                     s := maxsim(d, '{{1,0}}'::real[]);
                 END LOOP; END $$",
        )
        .expect("the loop runs");
        let after = memory_bytes();
        assert!(
            after < before + 10 * one_document,
            "{} bytes for 100 documents of {one_document}",
            after - before
        );
    }

    #[pg_test]
    fn a_direct_call_without_a_call_site_scores_too() {
        let array = |text: &str| {
            Spi::get_one::<AnyArrayDatum>(&format!("SELECT '{text}'::real[]"))
                .expect("a literal")
                .expect("not NULL")
                .0
        };
        let (document, query) = (array("{{1,0},{0,1}}"), array("{{3,4}}"));
        // SAFETY: the function takes two real[] and returns double precision; without a call site
        // it gets no FmgrInfo.
        let score = unsafe {
            let score = pg_sys::DirectFunctionCall2Coll(
                Some(crate::maxsim::maxsim_wrapper),
                pg_sys::InvalidOid,
                document,
                query,
            );
            f64::from_datum(score, false)
        };
        assert_eq!(score, Some(4.0));
    }

    #[pg_test]
    fn a_call_site_does_not_confuse_queries_of_one_shape() {
        let sum = score(
            "SELECT sum(maxsim('{{1,0},{0,2}}'::real[], query) * weight)
             FROM (VALUES ('{{1,0}}'::real[], 1), ('{{0,1}}', 10), ('{{1,0}}', 100)) q(query, weight)",
        );
        assert_eq!(sum, 121.0);
    }

    #[pg_test]
    fn documents_with_a_null_bitmap_but_no_null_are_read_right() {
        // Replacing a NULL leaves the bitmap in place.
        let score = score(
            "SELECT maxsim(d, '{{1,1}}'::real[]) FROM (
                 SELECT array_replace('{{1,NULL},{3,4}}'::real[], NULL, 9::real) AS d) AS v",
        );
        assert_eq!(score, 10.0);
    }

    #[pg_test]
    fn settings_are_read_in_this_backend_with_their_units() {
        Spi::run("SET infinity_embed.timeout = '250ms'").expect("a valid setting");
        let config = crate::settings::identity(None).and_then(crate::settings::config);
        assert_eq!(
            config.expect("defaults are complete").timeout.as_millis(),
            250
        );
    }

    /// A datum as SPI gives it, for handing it on.
    struct AnyArrayDatum(pg_sys::Datum);

    impl FromDatum for AnyArrayDatum {
        unsafe fn from_polymorphic_datum(
            datum: pg_sys::Datum,
            is_null: bool,
            _type_oid: pg_sys::Oid,
        ) -> Option<Self> {
            // SAFETY: an array datum; copied out of SPI's memory before it goes.
            (!is_null).then(|| unsafe {
                AnyArrayDatum(pg_sys::Datum::from(pg_sys::pg_detoast_datum_copy(
                    datum.cast_mut_ptr(),
                )))
            })
        }
    }

    impl IntoDatum for AnyArrayDatum {
        fn into_datum(self) -> Option<pg_sys::Datum> {
            Some(self.0)
        }

        fn type_oid() -> pg_sys::Oid {
            pg_sys::FLOAT4ARRAYOID
        }
    }
}
