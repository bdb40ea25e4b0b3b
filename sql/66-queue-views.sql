-- To look at the queue, and to wait for it.
--
-- Everybody may read the views, and sees in them what is his: the owner of a table, as whoever is a member of
-- the role that owns it, the rows of that table, and pg_monitor all. Since keys and errors are others' data,
-- no function of the reader's is called for rows that are not his (security_barrier).

-- A row that was noted again has a new job to come, whatever became of its old one.
CREATE VIEW infinity_embed.jobs WITH (security_barrier) AS
    SELECT t.relation, t.target, key,
           CASE WHEN j.claim IS NOT NULL THEN 'embedding'
                WHEN n.changed_at IS NOT NULL THEN 'waiting'
                WHEN j.dead THEN 'dead'
                WHEN j.attempts > 0 THEN 'failed'
                ELSE 'waiting' END AS state,
           CASE WHEN n.changed_at IS NULL THEN j.attempts ELSE 0 END AS attempts,
           CASE WHEN n.changed_at IS NULL THEN j.error END AS error,
           coalesce(n.changed_at, j.enqueued_at) AS enqueued_at,
           CASE WHEN j.claim IS NOT NULL THEN NULL
                WHEN n.changed_at IS NOT NULL THEN n.changed_at
                WHEN NOT j.dead THEN j.not_before END AS next_attempt,
           j.claimed_by, j.claimed_at,
           coalesce(n.is_backfill, j.is_backfill) AS is_backfill
    FROM infinity_embed.queue AS j
    FULL JOIN (
        SELECT w.target_id, w.key, min(w.changed_at) AS changed_at, bool_and(w.is_backfill) AS is_backfill
        FROM (SELECT c.target_id, c.key, c.changed_at, false AS is_backfill FROM infinity_embed.changes AS c
              UNION ALL SELECT b.target_id, b.key, b.changed_at, true FROM infinity_embed.backfill AS b) AS w
        GROUP BY w.target_id, w.key) AS n USING (target_id, key)
    JOIN infinity_embed.targets AS t ON t.id = target_id
    JOIN pg_catalog.pg_class AS c ON c.oid = t.relation
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW infinity_embed.jobs IS 'every row that waits for its embedding, or was given up';
COMMENT ON COLUMN infinity_embed.jobs.key IS 'the row''s primary key as text; a composite one as an array';
COMMENT ON COLUMN infinity_embed.jobs.state IS
    'waiting; embedding, by the process claimed_by; failed, to be tried again; or dead, until it changes or retry_dead() is called';
COMMENT ON COLUMN infinity_embed.jobs.attempts IS 'how often the row itself failed; an outage of the server does not count';
COMMENT ON COLUMN infinity_embed.jobs.error IS 'why the last attempt failed';
COMMENT ON COLUMN infinity_embed.jobs.enqueued_at IS 'begin of the transaction that changed the row, or switched auto_embed() on';
COMMENT ON COLUMN infinity_embed.jobs.next_attempt IS 'not before; NULL while it is embedded, and of the dead';
COMMENT ON COLUMN infinity_embed.jobs.claimed_by IS 'process that embeds it';
COMMENT ON COLUMN infinity_embed.jobs.claimed_at IS 'since when it does';
COMMENT ON COLUMN infinity_embed.jobs.is_backfill IS 'whether the row was there when auto_embed() was called, and has not changed since';

-- What is written there is not embedded, though what is known to wait is.
CREATE FUNCTION infinity_embed.unnoticed(relation regclass) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE COST 1000
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    part regclass;
    event text;
BEGIN
    SELECT p.relid, e.name INTO part, event
    FROM (SELECT t.relid FROM pg_partition_tree(relation) AS t UNION SELECT relation) AS p
    CROSS JOIN (VALUES (1, 'insert'), (2, 'update'), (3, 'delete'), (4, 'truncate')) AS e(place, name)
    WHERE NOT EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = p.relid AND g.tgname = 'infinity_embed_' || e.name
                      AND g.tgfoid = 'infinity_embed.enqueue()'::regprocedure AND g.tgenabled IN ('O', 'A'))
    ORDER BY p.relid, e.place LIMIT 1;
    RETURN format('trigger "infinity_embed_%s" of %s is missing or disabled, so that what is written there is not noticed. '
                  'Call infinity_embed.auto_embed() for %s again, which also queues the rows that are there.', event, part, relation)
    WHERE part IS NOT NULL;
END
$function$;
COMMENT ON FUNCTION infinity_embed.unnoticed(regclass) IS
    'why not all that is written to a table or a partition of it is noticed, and what to do; NULL if it is';

-- Live rows are counted by the statistics system, which begins anew after a crash: then the planner's number is better.
CREATE VIEW infinity_embed.status WITH (security_barrier) AS
    SELECT t.relation, t.target, t.model, live.rows,
           greatest(live.rows - coalesce(j.pending, 0) - coalesce(j.dead, 0), 0) AS embedded,
           coalesce(j.pending, 0) AS pending,
           coalesce(j.failed, 0) AS failed,
           coalesce(j.dead, 0) AS dead,
           t.written,
           j.oldest AS oldest_pending,
           CASE WHEN t.counted_since > pg_catalog.clock_timestamp() - interval '2 minutes' THEN t.counted
                    / greatest(extract(epoch FROM pg_catalog.clock_timestamp() - t.counted_since)::float8, 0.001)
                ELSE 0 END AS rate,
           coalesce(broken.problem || '. ' || broken.hint, t.problem, infinity_embed.unnoticed(t.relation)) AS problem
    FROM infinity_embed.targets AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.relation
    CROSS JOIN LATERAL infinity_embed.definition_problem(t) AS broken
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(CASE
                   WHEN pg_catalog.pg_stat_get_live_tuples(p.oid) = 0 AND pg_catalog.pg_stat_get_tuples_inserted(p.oid) = 0
                   THEN greatest(p.reltuples, 0) ELSE pg_catalog.pg_stat_get_live_tuples(p.oid) END), 0)::bigint AS rows
        FROM pg_catalog.pg_class AS p
        WHERE p.relkind = 'r' AND (p.oid = t.relation
              OR p.oid IN (SELECT part.relid FROM pg_catalog.pg_partition_tree(t.relation) AS part))) AS live
    LEFT JOIN (
        SELECT j.relation, j.target, count(*) FILTER (WHERE j.state <> 'dead') AS pending,
               count(*) FILTER (WHERE j.state = 'failed') AS failed,
               count(*) FILTER (WHERE j.state = 'dead') AS dead,
               min(j.enqueued_at) FILTER (WHERE j.state <> 'dead') AS oldest
        FROM infinity_embed.jobs AS j GROUP BY j.relation, j.target) AS j ON j.relation = t.relation AND j.target = t.target
    WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE');
COMMENT ON VIEW infinity_embed.status IS 'how far each column that is kept embedded has come';
COMMENT ON COLUMN infinity_embed.status.rows IS 'estimate of the table''s rows, partitions included';
COMMENT ON COLUMN infinity_embed.status.embedded IS 'estimate of the rows whose embedding is that of their source: all but the pending and the dead';
COMMENT ON COLUMN infinity_embed.status.pending IS 'rows that wait for their embedding';
COMMENT ON COLUMN infinity_embed.status.failed IS 'pending rows that failed before and will be tried again';
COMMENT ON COLUMN infinity_embed.status.dead IS 'rows that were given up';
COMMENT ON COLUMN infinity_embed.status.written IS 'embeddings written since auto_embed(), of a row as often as it changed';
COMMENT ON COLUMN infinity_embed.status.oldest_pending IS 'since when the oldest pending row has waited';
COMMENT ON COLUMN infinity_embed.status.rate IS 'rows embedded per second, over one or two minutes until now';
COMMENT ON COLUMN infinity_embed.status.problem IS 'why nothing at all can be embedded, or why not all that is written is noticed';

CREATE VIEW infinity_embed.errors WITH (security_barrier) AS
    SELECT j.relation, j.target, j.key, j.error, j.attempts, j.state = 'dead' AS dead, j.next_attempt
    FROM infinity_embed.jobs AS j
    WHERE j.error IS NOT NULL;
COMMENT ON VIEW infinity_embed.errors IS 'rows that could not be embedded, and why';

GRANT SELECT ON infinity_embed.jobs, infinity_embed.status, infinity_embed.errors TO PUBLIC;
GRANT SELECT ON infinity_embed.targets, infinity_embed.queue, infinity_embed.changes, infinity_embed.backfill TO pg_monitor;

-- Of a million dead jobs none may be read: it is asked twenty times a second, and while writers wait. The order is
-- the partial index's, which holds none of them.
CREATE FUNCTION infinity_embed.has_live_jobs(target_id integer) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 100
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_sort = off
AS $function$
#variable_conflict use_variable
BEGIN
    RETURN EXISTS (
        SELECT FROM (SELECT FROM infinity_embed.queue AS j WHERE j.target_id = target_id AND NOT j.dead
                     ORDER BY j.is_suspect, j.is_backfill, j.not_before LIMIT 1) AS first);
END
$function$;
COMMENT ON FUNCTION infinity_embed.has_live_jobs(integer) IS
    'whether any job of a target is not dead';

CREATE FUNCTION infinity_embed.is_anything_waiting() RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN EXISTS (SELECT FROM infinity_embed.changes)
        OR EXISTS (SELECT FROM infinity_embed.backfill)
        OR EXISTS (SELECT FROM infinity_embed.targets AS t WHERE infinity_embed.has_live_jobs(t.id)
                   AND (SELECT p.problem FROM infinity_embed.definition_problem(t) AS p) IS NULL);
END
$function$;
COMMENT ON FUNCTION infinity_embed.is_anything_waiting() IS
    'whether any row waits, now or for a later attempt, but for those whose table has to be altered first';

-- SECURITY DEFINER, so that whoever writes a table may wait: it tells no more than whether rows are pending, and, where
-- nothing but broken definitions is left, what the system catalogs show to all.
CREATE FUNCTION infinity_embed.pending(relation regclass, OUT pending boolean, OUT problem text, OUT hint text) RETURNS record
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT SECURITY DEFINER PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    SELECT true, p.problem, p.hint INTO pending, problem, hint
    FROM infinity_embed.targets AS t
    JOIN pg_class AS c ON c.oid = t.relation
    CROSS JOIN LATERAL infinity_embed.definition_problem(t) AS p
    WHERE (pending.relation IS NULL OR t.relation = pending.relation
           OR t.relation IN (SELECT a.relid FROM pg_partition_ancestors(pending.relation) AS a))
      AND (infinity_embed.has_live_jobs(t.id)
           OR EXISTS (SELECT FROM infinity_embed.changes AS w WHERE w.target_id = t.id)
           OR EXISTS (SELECT FROM infinity_embed.backfill AS w WHERE w.target_id = t.id))
    ORDER BY p.problem IS NOT NULL LIMIT 1;
    pending := coalesce(pending, false);
END
$function$;
COMMENT ON FUNCTION infinity_embed.pending(regclass) IS
    'whether rows of a table, of the one it is a partition of, or of any are pending, and what keeps them all from being embedded';

CREATE FUNCTION infinity_embed.is_served() RETURNS boolean
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT SECURITY DEFINER PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
AS $function$
BEGIN
    RETURN infinity_embed.has_worker()
        OR EXISTS (SELECT FROM infinity_embed.queue AS j WHERE NOT j.dead AND j.claim IS NOT NULL AND j.leased_until > clock_timestamp());
END
$function$;
COMMENT ON FUNCTION infinity_embed.is_served() IS
    'whether a worker runs, or somebody else embeds rows at this moment';

CREATE FUNCTION infinity_embed.wait(relation regclass DEFAULT NULL, timeout interval DEFAULT '1 hour')
    RETURNS boolean
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 100000
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    deadline constant timestamptz := clock_timestamp() + timeout;
    look_every constant interval := '1 second';
    looked_at timestamptz := clock_timestamp();
    state record;
    problems text;
    worry text;
    worry_before text;
    told text;
BEGIN
    LOOP
        SELECT p.* INTO state FROM infinity_embed.pending(relation) AS p;
        IF NOT state.pending THEN
            RETURN true;
        END IF;
        IF infinity_embed.has_noted() THEN
            RAISE EXCEPTION 'rows that this transaction has changed are embedded only after it has committed'
                USING ERRCODE = 'active_sql_transaction', HINT = 'Commit before calling infinity_embed.wait().';
        END IF;
        IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
            RAISE EXCEPTION 'a % transaction does not see what is embedded while it waits', current_setting('transaction_isolation')
                USING ERRCODE = 'active_sql_transaction', HINT = 'Call infinity_embed.wait() in a READ COMMITTED transaction.';
        END IF;
        IF state.problem IS NOT NULL THEN
            RAISE EXCEPTION '%', state.problem
                USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'Rows that wait cannot be embedded.', HINT = state.hint;
        END IF;
        IF clock_timestamp() >= deadline THEN
            RETURN false;
        END IF;
        IF clock_timestamp() >= looked_at + look_every THEN
            looked_at := clock_timestamp();
            -- As the caller, who sees no other's.
            SELECT string_agg(s.problem, '; ' ORDER BY s.problem) INTO problems FROM infinity_embed.status AS s
            WHERE wait.relation IS NULL OR s.relation = wait.relation
               OR s.relation IN (SELECT a.relid FROM pg_partition_ancestors(wait.relation) AS a);
            worry := CASE WHEN infinity_embed.is_served() THEN problems
                          ELSE concat_ws('; last time: ', 'rows are pending, and no worker runs', problems) END;
            -- Seen twice, because a worker may just be starting, and told once.
            IF worry IS NULL THEN
                told := NULL;
            ELSIF worry = worry_before AND worry IS DISTINCT FROM told THEN
                RAISE NOTICE '%', worry USING HINT = CASE
                    WHEN worry = problems THEN 'Rows that wait are tried again meanwhile.'
                    WHEN current_setting('infinity_embed.worker')::boolean THEN
                        'One starts when rows are changed and max_worker_processes leaves a slot; CALL infinity_embed.process_queue() needs none.'
                    ELSE 'CALL infinity_embed.process_queue(), or switch infinity_embed.worker on.' END;
                told := worry;
            END IF;
            worry_before := worry;
        END IF;
        PERFORM pg_sleep(0.05);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION infinity_embed.wait(regclass, interval) IS
    'waits until no row of a table (or of any) is pending; false when the time is up';
