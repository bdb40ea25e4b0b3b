-- How well and how fast an index answers, against the exact order.

CREATE FUNCTION infinity_embed.measure_recall(
    index regclass,
    sample integer DEFAULT 50,
    k integer DEFAULT 10,
    query_source text DEFAULT NULL,
    OUT queries integer,
    OUT recall double precision,
    OUT index_ms double precision,
    OUT index_ms_p95 double precision,
    OUT exact_ms double precision)
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 100000
    -- What is changed below is undone at the end, however it ends.
    SET enable_seqscan = on
    SET enable_indexscan = on
    SET enable_sort = on
    SET max_parallel_workers_per_gather = 0
    SET jit = off
AS $function$
DECLARE
    document text := pg_catalog.pg_get_indexdef(index, 1, true);
    rows_of text;
    ranking text;
    plan json;
    query real[];
    exact double precision[];
    found double precision[];
    started timestamptz;
    index_times double precision[] := '{}';
    exact_times double precision[] := '{}';
    hits bigint := 0;
    wanted bigint := 0;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_am AS a ON a.oid = c.relam
                   WHERE c.oid = index AND c.relkind = 'i' AND a.amname = 'maxsim') THEN
        RAISE EXCEPTION '"%" is not a maxsim index', index USING ERRCODE = 'wrong_object_type',
            HINT = 'The index of a partitioned table is measured partition by partition.';
    END IF;
    IF sample IS NULL OR k IS NULL OR sample < 1 OR k < 1 THEN
        RAISE EXCEPTION 'sample and k must be at least 1, not % and %', sample, k
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT pg_catalog.format('%s WHERE %s', i.indrelid::regclass,
               coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), 'true'))
    INTO rows_of FROM pg_catalog.pg_index AS i WHERE i.indexrelid = index;
    ranking := pg_catalog.format(
        'SELECT pg_catalog.array_agg(s.distance) FROM (
             SELECT %1$s OPERATOR(@extschema@.@#) $1 AS distance FROM %2$s AND (%1$s) IS NOT NULL
             ORDER BY %1$s OPERATOR(@extschema@.@#) $1 LIMIT %3$s) AS s', document, rows_of, k);
    -- The first 32 tokens of rows picked at random make queries that look like the data.
    query_source := coalesce(query_source, pg_catalog.format(
        'SELECT (%1$s)::real[] FROM %2$s AND (%1$s) IS NOT NULL ORDER BY pg_catalog.random()', document, rows_of));
    queries := 0;
    FOR query IN EXECUTE pg_catalog.format('SELECT (q::real[])[1:32][:] FROM (%s) AS s(q) LIMIT %s', query_source, sample)
    LOOP
        PERFORM pg_catalog.set_config('enable_seqscan', 'on', true),
            pg_catalog.set_config('enable_sort', 'on', true),
            pg_catalog.set_config('enable_indexscan', 'off', true);
        started := pg_catalog.clock_timestamp();
        EXECUTE ranking INTO exact USING query;
        exact_times := exact_times || 1000.0::double precision
            * EXTRACT(epoch FROM pg_catalog.clock_timestamp() - started)::double precision;
        PERFORM pg_catalog.set_config('enable_seqscan', 'off', true),
            pg_catalog.set_config('enable_sort', 'off', true),
            pg_catalog.set_config('enable_indexscan', 'on', true);
        IF queries = 0 THEN
            EXECUTE 'EXPLAIN (FORMAT json) ' || ranking INTO plan USING query;
            IF pg_catalog.strpos(plan::text, pg_catalog.format('"Index Name": %s,', pg_catalog.to_json(
                   (SELECT c.relname::text FROM pg_catalog.pg_class AS c WHERE c.oid = index)))) = 0 THEN
                RAISE EXCEPTION 'the planner does not use index "%" for its own ranking', index
                    USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'Another index on the same column may stand before it.';
            END IF;
        END IF;
        started := pg_catalog.clock_timestamp();
        EXECUTE ranking INTO found USING query;
        index_times := index_times || 1000.0::double precision
            * EXTRACT(epoch FROM pg_catalog.clock_timestamp() - started)::double precision;
        queries := queries + 1;
        wanted := wanted + pg_catalog.cardinality(exact);
        -- By distance, so that of two rows at the same one either is right.
        hits := hits + (SELECT count(*) FROM pg_catalog.unnest(found) AS f(distance)
                        WHERE f.distance <= exact[pg_catalog.cardinality(exact)]);
    END LOOP;
    recall := hits / nullif(wanted, 0)::double precision;
    SELECT pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY t),
           pg_catalog.percentile_cont(0.95) WITHIN GROUP (ORDER BY t)
    INTO index_ms, index_ms_p95 FROM pg_catalog.unnest(index_times) AS t;
    SELECT pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY t)
    INTO exact_ms FROM pg_catalog.unnest(exact_times) AS t;
END
$function$;
COMMENT ON FUNCTION infinity_embed.measure_recall(regclass, integer, integer, text) IS
    'share of the exact best k rows that a maxsim index finds, and the median times of both, over queries from the table or from a query of your own';
