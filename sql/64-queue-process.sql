-- Working off the queue. process_queue() and the worker call these as the extension's owner, each in
-- a transaction of its own; the statements that claim_jobs() hands out they run as the table's owner.
-- Plans must not depend on statistics: a queue is empty whenever ANALYZE looks at it.

CREATE PROCEDURE infinity_embed.process_queue(max_jobs bigint DEFAULT NULL)
    AS 'MODULE_PATHNAME', 'queue_process_wrapper'
    LANGUAGE c;
COMMENT ON PROCEDURE infinity_embed.process_queue(bigint) IS
    'embeds what is queued in the foreground, committing between batches';

-- bytes are the vectors' components as 4-byte floats in the machine's order.
CREATE FUNCTION infinity_embed.vectors(bytes bytea, dim integer) RETURNS real[]
    AS 'MODULE_PATHNAME', 'queue_vectors_wrapper'
    LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION infinity_embed.vectors(bytea, integer) IS
    'how process_queue() hands embeddings to the statement that writes them';

-- From one target's jobs to the next one's in the index: there may be millions of jobs, and few targets.
CREATE FUNCTION infinity_embed.forget_orphans() RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_sort = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $function$
    WITH RECURSIVE present(id) AS (
        (SELECT j.target_id FROM infinity_embed.queue AS j ORDER BY j.target_id LIMIT 1)
        UNION ALL
        SELECT (SELECT j.target_id FROM infinity_embed.queue AS j WHERE j.target_id > p.id ORDER BY j.target_id LIMIT 1)
        FROM present AS p WHERE p.id IS NOT NULL),
    gone AS MATERIALIZED (
        SELECT p.id FROM present AS p
        WHERE p.id IS NOT NULL AND NOT EXISTS (SELECT FROM infinity_embed.targets AS t WHERE t.id = p.id))
    DELETE FROM infinity_embed.queue AS j WHERE j.ctid = ANY (ARRAY(
        SELECT j.ctid FROM gone AS g JOIN infinity_embed.queue AS j ON j.target_id = g.id FOR UPDATE OF j SKIP LOCKED))
$function$;
COMMENT ON FUNCTION infinity_embed.forget_orphans() IS
    'deletes jobs of targets that are gone';

CREATE FUNCTION infinity_embed.tidy_queue() RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
    -- Of dropped tables. What was noted since goes when jobs are made of it.
    SELECT infinity_embed.forget_dropped(NULL);
    SELECT infinity_embed.forget_orphans();
    -- Claimed by a process that is gone, or that does something else by now.
    UPDATE infinity_embed.queue AS j SET claim = NULL, claimed_by = NULL, claimed_at = NULL, leased_until = NULL
    FROM (SELECT j.ctid FROM infinity_embed.queue AS j
          WHERE j.claim IS NOT NULL AND NOT EXISTS (
              SELECT FROM pg_stat_get_activity(NULL) AS a
              WHERE a.pid = j.claimed_by AND a.state IS DISTINCT FROM 'idle'
                AND coalesce(a.query_start, a.backend_start) <= j.claimed_at)
          FOR UPDATE SKIP LOCKED) AS lost
    WHERE j.ctid = lost.ctid
$function$;
COMMENT ON FUNCTION infinity_embed.tidy_queue() IS
    'forgets dropped tables, and takes claims from processes that are gone';

-- Changes first, however many jobs are ready: they have precedence over a backfill. As many at once as
-- make it cheap to skip those already taken. Jobs of a target that cannot be claimed from now do not count: the backfill of the
-- others would wait behind them.
CREATE FUNCTION infinity_embed.make_jobs(wanted integer, resting integer[] DEFAULT '{}') RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM infinity_embed.make_jobs_of(false, 10000);
    IF wanted > (SELECT count(*) FROM (
            SELECT FROM infinity_embed.targets AS t
            JOIN infinity_embed.queue AS j ON j.target_id = t.id AND j.is_backfill AND NOT j.dead AND NOT j.is_suspect
             AND j.not_before <= clock_timestamp()
            WHERE j.claim IS NULL AND t.problem IS NULL AND t.id <> ALL (resting) LIMIT wanted) AS ready) THEN
        PERFORM infinity_embed.make_jobs_of(true, 10000);
    END IF;
END
$function$;
COMMENT ON FUNCTION infinity_embed.make_jobs(integer, integer[]) IS
    'makes jobs of changes, one for each row, and of the backfill where fewer than so many of its jobs are ready';

-- A row whose job an open transaction has locked (it deletes the row, or calls auto_embed()) stays noted, and those
-- behind it have their turn: only what is taken is locked, and nothing is waited for. In the order of their keys, since
-- two processes may do this at the same time.
CREATE FUNCTION infinity_embed.make_jobs_of(the_backfill boolean, most integer) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_nestloop = off
AS $function$
DECLARE
    last tid := '(0,0)';
    free tid[];
    made bigint;
BEGIN
    LOOP
        WITH noted AS MATERIALIZED (
            (SELECT c.ctid AS place, c.target_id, c.key FROM infinity_embed.changes AS c
             WHERE NOT the_backfill AND c.ctid > last LIMIT most)
            UNION ALL
            (SELECT b.ctid, b.target_id, b.key FROM infinity_embed.backfill AS b
             WHERE the_backfill AND b.ctid > last LIMIT most)),
        existing AS MATERIALIZED (
            SELECT n.place, j.job FROM noted AS n CROSS JOIN LATERAL (
                SELECT j.ctid AS job FROM infinity_embed.queue AS j
                WHERE j.target_id = n.target_id AND j.key = n.key OFFSET 0) AS j),
        locked AS MATERIALIZED (
            SELECT j.ctid AS job FROM infinity_embed.queue AS j
            WHERE j.ctid = ANY (ARRAY(SELECT e.job FROM existing AS e)) FOR UPDATE SKIP LOCKED),
        barred AS (
            SELECT e.place FROM existing AS e WHERE NOT EXISTS (SELECT FROM locked AS l WHERE l.job = e.job))
        SELECT max(n.place), array_agg(n.place) FILTER (WHERE b.place IS NULL) INTO last, free
        FROM noted AS n LEFT JOIN barred AS b ON b.place = n.place;
        EXIT WHEN last IS NULL;
        WITH changes AS (
            DELETE FROM infinity_embed.changes AS c WHERE NOT the_backfill AND c.ctid = ANY (ARRAY(
                SELECT c.ctid FROM infinity_embed.changes AS c WHERE c.ctid = ANY (free) FOR UPDATE SKIP LOCKED))
            RETURNING c.target_id, c.key, c.changed_at),
        backfill AS (
            DELETE FROM infinity_embed.backfill AS b WHERE the_backfill AND b.ctid = ANY (ARRAY(
                SELECT b.ctid FROM infinity_embed.backfill AS b WHERE b.ctid = ANY (free) FOR UPDATE SKIP LOCKED))
            RETURNING b.target_id, b.key, b.changed_at)
        INSERT INTO infinity_embed.queue AS j (target_id, key, is_backfill, enqueued_at, not_before)
        SELECT n.target_id, n.key, the_backfill, min(n.changed_at), min(n.changed_at)
        FROM (TABLE changes UNION ALL TABLE backfill) AS n
        JOIN infinity_embed.targets AS t ON t.id = n.target_id
        GROUP BY n.target_id, n.key ORDER BY n.target_id, n.key
        ON CONFLICT (target_id, key) DO UPDATE SET is_backfill = j.is_backfill AND EXCLUDED.is_backfill,
            enqueued_at = EXCLUDED.enqueued_at, not_before = EXCLUDED.not_before, claim = NULL, claimed_by = NULL,
            claimed_at = NULL, leased_until = NULL, attempts = 0, is_suspect = false, dead = false, error = NULL;
        GET DIAGNOSTICS made = ROW_COUNT;
        EXIT WHEN made > 0;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION infinity_embed.make_jobs_of(boolean, integer) IS
    'makes jobs of the first changes, or of the first rows of the backfill, that can be taken';

-- Changes and backfill are counted as texts, until jobs have been made of them.
CREATE FUNCTION infinity_embed.batches_waiting(text_jobs integer, image_jobs integer, most integer) RETURNS bigint
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
AS $function$
    SELECT least(most, sum(ceil(waiting.count / waiting.batch::float8)))::bigint
    FROM (
        SELECT t.batch, (SELECT count(*) FROM (
                   SELECT FROM infinity_embed.queue AS j
                   WHERE j.target_id = t.id AND NOT j.dead AND j.not_before <= clock_timestamp() AND j.claim IS NULL
                   LIMIT t.batch * most) AS ready)
        FROM (SELECT t.id, CASE t.kind WHEN 'image' THEN image_jobs ELSE text_jobs END AS batch
              FROM infinity_embed.targets AS t WHERE t.problem IS NULL) AS t
        UNION ALL
        SELECT text_jobs, (SELECT count(*) FROM (
                   (SELECT FROM infinity_embed.changes AS c UNION ALL SELECT FROM infinity_embed.backfill AS b)
                   LIMIT text_jobs * most) AS noted)) AS waiting (batch, count)
$function$;
COMMENT ON FUNCTION infinity_embed.batches_waiting(integer, integer, integer) IS
    'how many batches could be claimed now, up to a limit';

-- At most so many jobs of one target; no row when nothing can be done now. Changes come before the
-- backfill and the older before the newer, but every fourth batch is the backfill's, so that it comes to
-- an end whatever is written meanwhile. Of a target that could not be embedded at all last time it takes
-- one job, to see whether it can be now. A suspect comes alone: when there is nothing
-- else to do, and at every sixteenth batch, so that no backfill keeps it waiting.
CREATE FUNCTION infinity_embed.claim_jobs(text_jobs integer, image_jobs integer, lease interval, obey_pauses boolean,
        resting integer[], OUT claim bigint, OUT target_id integer, OUT version integer, OUT owner oid,
        OUT table_name text, OUT is_image boolean, OUT model text, OUT dim integer, OUT normalized boolean,
        OUT is_probe boolean, OUT is_suspect boolean, OUT keys text[],
        OUT lock_statement text, OUT read_statement text, OUT write_statement text)
    RETURNS SETOF record
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000 ROWS 1
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
AS $function$
#variable_conflict use_column
DECLARE
    moment constant timestamptz := clock_timestamp();
    number constant bigint := nextval('infinity_embed.claims');
    candidate record;
    target infinity_embed.targets;
    obstacle text;
    wanted integer;
    places tid[];
    is_news boolean := false;
    is_second boolean := false;
BEGIN
    <<turn>>
    LOOP
        PERFORM infinity_embed.make_jobs(text_jobs, resting);
        FOR candidate IN
            SELECT t AS target, kind.is_backfill, kind.is_suspect FROM infinity_embed.targets AS t
            CROSS JOIN (VALUES (false, false), (true, false), (false, true), (true, true)) AS kind(is_backfill, is_suspect)
            CROSS JOIN LATERAL (
                SELECT j.not_before FROM infinity_embed.queue AS j
                WHERE j.target_id = t.id AND j.is_suspect = kind.is_suspect AND j.is_backfill = kind.is_backfill
                  AND NOT j.dead AND j.not_before <= moment AND (j.claim IS NULL OR j.leased_until < moment)
                ORDER BY j.not_before LIMIT 1) AS oldest
            WHERE (NOT obey_pauses OR t.paused_until IS NULL OR t.paused_until <= moment) AND t.id <> ALL (resting)
            ORDER BY kind.is_suspect <> (number % 16 = 15), kind.is_backfill <> (number % 4 = 0), oldest.not_before
        LOOP
            target := candidate.target;
            SELECT p.problem || '. ' || p.hint INTO obstacle FROM infinity_embed.definition_problem(target) AS p;
            IF obstacle IS NOT NULL THEN
                is_news := is_news OR target.problem IS NULL;
                PERFORM infinity_embed.note_problem(target.id, obstacle, NULL);
                CONTINUE;
            END IF;
            wanted := CASE WHEN candidate.is_suspect OR target.problem IS NOT NULL THEN 1
                           WHEN target.kind = 'image' THEN image_jobs ELSE text_jobs END;
            places := infinity_embed.ready_jobs(target.id, candidate.is_suspect, candidate.is_backfill, moment, wanted);
            IF cardinality(places) < wanted THEN
                places := places || infinity_embed.ready_jobs(
                    target.id, candidate.is_suspect, NOT candidate.is_backfill, moment, wanted - cardinality(places));
            END IF;
            WITH claimed AS (
                UPDATE infinity_embed.queue AS j SET claim = number, claimed_by = pg_backend_pid(),
                    claimed_at = moment, leased_until = moment + lease
                WHERE j.ctid = ANY (places) RETURNING j.key)
            SELECT array_agg(c.key) INTO keys FROM claimed AS c;
            IF keys IS NOT NULL THEN
                claim := number;
                target_id := target.id;
                version := target.version;
                table_name := target.relation::text;
                is_image := target.kind = 'image';
                model := target.model;
                dim := target.dim;
                normalized := target.normalize;
                is_probe := target.problem IS NOT NULL;
                is_suspect := candidate.is_suspect;
                SELECT c.relowner INTO owner FROM pg_class AS c WHERE c.oid = target.relation;
                SELECT s.* INTO lock_statement, read_statement, write_statement
                FROM infinity_embed.statements(target) AS s;
                RETURN NEXT;
                RETURN;
            END IF;
        END LOOP;
        EXIT turn WHEN is_second OR NOT is_news;
        -- Behind its jobs, that now are known to be of no use, the backfill of others has waited.
        is_second := true;
    END LOOP;
END
$function$;
COMMENT ON FUNCTION infinity_embed.claim_jobs(integer, integer, interval, boolean, integer[]) IS
    'takes jobs of one target for the calling process';

-- An open transaction may have changed the definition: then the note is left out.
CREATE FUNCTION infinity_embed.note_problem(target_id integer, problem text, paused_until timestamptz) RETURNS void
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
BEGIN
    UPDATE infinity_embed.targets AS t SET problem = problem, paused_until = paused_until
    WHERE t.ctid = ANY (ARRAY(
        SELECT t.ctid FROM infinity_embed.targets AS t
        WHERE t.id = target_id AND (t.problem, t.paused_until) IS DISTINCT FROM (problem, paused_until)
        FOR NO KEY UPDATE SKIP LOCKED));
END
$function$;
COMMENT ON FUNCTION infinity_embed.note_problem(integer, text, timestamptz) IS
    'keeps why nothing of a target could be embedded, and how long it rests';

CREATE FUNCTION infinity_embed.ready_jobs(
        target_id integer, is_suspect boolean, is_backfill boolean, moment timestamptz, most integer)
    RETURNS tid[]
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
AS $function$
#variable_conflict use_variable
BEGIN
    RETURN ARRAY(
        SELECT j.ctid FROM infinity_embed.queue AS j
        WHERE j.target_id = target_id AND j.is_suspect = is_suspect AND j.is_backfill = is_backfill AND NOT j.dead
          AND j.not_before <= moment AND (j.claim IS NULL OR j.leased_until < moment)
        ORDER BY j.not_before LIMIT most FOR UPDATE SKIP LOCKED);
END
$function$;
COMMENT ON FUNCTION infinity_embed.ready_jobs(integer, boolean, boolean, timestamptz, integer) IS
    'locks the oldest jobs that can be claimed';

-- Whether the row t is the one that a job's key names, by the primary key's own operators.
-- In PL/pgSQL, which keeps its plan: planning takes longer than anything else here.
CREATE FUNCTION infinity_embed.key_match(target infinity_embed.targets, key text) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE COST 1000
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN (SELECT string_agg(format('t.%I OPERATOR(%I.%s) %s::%s', a.attname, n.nspname, o.oprname,
               CASE cardinality(target.key_columns) WHEN 1 THEN key
               ELSE format('(%s::pg_catalog.text[])[%s]', key, k.place) END,
               format_type(a.atttypid, a.atttypmod)), ' AND ')
    FROM unnest(target.key_columns) WITH ORDINALITY AS k(name, place)
    JOIN pg_attribute AS a ON a.attrelid = target.relation AND a.attname = k.name
    JOIN pg_index AS i ON i.indrelid = target.relation AND i.indisprimary
    JOIN pg_opclass AS c ON c.oid = i.indclass[k.place::integer - 1]
    JOIN pg_amop AS s ON s.amopfamily = c.opcfamily AND s.amopstrategy = 3
         AND s.amoplefttype = c.opcintype AND s.amoprighttype = c.opcintype
         AND s.amopmethod = (SELECT m.oid FROM pg_am AS m WHERE m.amname = 'btree')
    JOIN pg_operator AS o ON o.oid = s.amopopr
    JOIN pg_namespace AS n ON n.oid = o.oprnamespace);
END
$function$;
COMMENT ON FUNCTION infinity_embed.key_match(infinity_embed.targets, text) IS
    'SQL that finds the row of a job';

-- lock: what the UPDATE will need, which keeps the definition from changing to the end of the transaction. read: $1 keys, $2 bytes that sources may have together; gives key, source, fingerprint, and whether
-- the source was left out for its size. write: $1 keys, $2 fingerprints, $3 vectors, $4 dim; gives key,
-- whether the source is the one that was embedded, and whether the row was written. A row that somebody
-- else has locked is left out.
CREATE FUNCTION infinity_embed.statements(target infinity_embed.targets,
        OUT lock_statement text, OUT read_statement text, OUT write_statement text) RETURNS record
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE COST 1000
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    fingerprint constant text := CASE target.kind
        WHEN 'image' THEN 'pg_catalog.encode(pg_catalog.sha256(%s), ''hex'')' ELSE '%s' END;
    -- The expression may name a collation, which would conflict with that of the comparison.
    source constant text := format('((%s)::pg_catalog.%s)', target.source,
        CASE target.kind WHEN 'image' THEN 'bytea' ELSE 'text COLLATE pg_catalog."C"' END);
    vectors text := 'infinity_embed.vectors(v.vectors, $4::pg_catalog.int4)';
BEGIN
    IF target.pooling > 1 THEN
        vectors := format('%1$I.multivector_pool(%2$s::%1$I.multivector, %3$s)',
            (SELECT n.nspname FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
             WHERE t.oid = infinity_embed.multivector_type()), vectors, target.pooling);
    END IF;
    lock_statement := format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', target.relation);
    read_statement := format(
        'SELECT key, CASE WHEN NOT left_out THEN source END, CASE WHEN NOT left_out THEN %2$s END, left_out
         FROM (SELECT key, source, coalesce(pg_catalog.sum(pg_catalog.octet_length(source)) OVER before, 0) > $2 AS left_out
               FROM (SELECT w.infinity_embed_key AS key, %3$s AS source
                     FROM pg_catalog.unnest($1) AS w(infinity_embed_key) JOIN %1$s AS t ON %4$s OFFSET 0) AS s
               WINDOW before AS (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS s',
        target.relation, format(fingerprint, 'source'), source, infinity_embed.key_match(target, 'w.infinity_embed_key'));
    -- The vectors are what is large: only the second step touches them.
    write_statement := format(
        'WITH free AS MATERIALIZED (
             SELECT w.infinity_embed_key AS key, %3$s IS NOT DISTINCT FROM w.infinity_embed_fingerprint COLLATE "C" AS fresh
             FROM unnest($1, $2) AS w(infinity_embed_key, infinity_embed_fingerprint)
             JOIN %1$s AS t ON %4$s FOR NO KEY UPDATE OF t SKIP LOCKED),
         written AS (
             UPDATE %1$s AS t SET %2$I = %6$s
             FROM free AS f JOIN unnest($1, $3) AS v(key, vectors) ON v.key = f.key
             WHERE %5$s AND f.fresh RETURNING f.key)
         SELECT f.key, f.fresh, w.key IS NOT NULL FROM free AS f LEFT JOIN written AS w ON w.key = f.key',
        target.relation, target.target, format(fingerprint, source),
        infinity_embed.key_match(target, 'w.infinity_embed_key'), infinity_embed.key_match(target, 'f.key'),
        vectors);
END
$function$;
COMMENT ON FUNCTION infinity_embed.statements(infinity_embed.targets) IS
    'the SQL that reads a target''s sources and writes its embeddings';

-- Jobs that another transaction has locked are its own by now: it changes the row. Each is looked up by
-- its key: a target may have millions of jobs.
CREATE FUNCTION infinity_embed.claimed_jobs(target_id integer, claim bigint, keys text[]) RETURNS tid[]
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $function$
#variable_conflict use_variable
BEGIN
    RETURN ARRAY(
        SELECT j.ctid FROM unnest(keys) AS k(key)
        JOIN infinity_embed.queue AS j ON j.target_id = target_id AND j.key = k.key AND j.claim = claim
        FOR UPDATE OF j SKIP LOCKED);
END
$function$;
COMMENT ON FUNCTION infinity_embed.claimed_jobs(integer, bigint, text[]) IS
    'locks those jobs of a claim that still are its own';

-- What was released, mostly because a writer holds the row's lock, waits the longer the longer it has waited; what is
-- given back has not been tried. A problem means that it could not be, for a reason that is no row's: its target
-- rests, and the row by which that was seen goes behind the others, since it may be what brings the server down.
-- Suspects ran out of time.
CREATE FUNCTION infinity_embed.settle_jobs(target_id integer, claim bigint, embedded bigint, seconds double precision,
        done text[], released text[], given_back text[], suspects text[], failed text[], errors text[],
        max_attempts integer, problem text, pause interval) RETURNS void
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    moment constant timestamptz := clock_timestamp();
    minute constant interval := '1 minute';
    places tid[];
BEGIN
    places := infinity_embed.claimed_jobs(target_id, claim, done);
    DELETE FROM infinity_embed.queue AS j WHERE j.ctid = ANY (places);
    IF cardinality(released || given_back) > 0 THEN
        places := infinity_embed.claimed_jobs(target_id, claim, released || given_back);
        UPDATE infinity_embed.queue AS j SET claim = NULL, claimed_by = NULL, claimed_at = NULL, leased_until = NULL,
            is_suspect = j.is_suspect OR j.key = ANY (suspects),
            not_before = CASE
                WHEN j.key = ANY (released) THEN moment + least(
                    greatest((moment - j.enqueued_at) / 4, interval '100 milliseconds'), interval '30 seconds')
                WHEN problem IS NOT NULL AND cardinality(given_back) = 1 THEN moment
                ELSE j.not_before END
        WHERE j.ctid = ANY (places);
    END IF;
    IF cardinality(failed) > 0 THEN
        places := infinity_embed.claimed_jobs(target_id, claim, failed);
        UPDATE infinity_embed.queue AS j SET claim = NULL, claimed_by = NULL, claimed_at = NULL, leased_until = NULL,
            is_suspect = j.is_suspect OR j.key = ANY (suspects),
            attempts = j.attempts + 1, dead = j.attempts + 1 >= max_attempts, error = f.error,
            not_before = moment + least(interval '1 second' * power(2, j.attempts), interval '5 minutes')
        FROM unnest(failed, errors) AS f(key, error)
        WHERE j.ctid = ANY (places) AND j.key = f.key;
    END IF;
    -- What was written is locked: no open transaction can have changed the definition.
    IF embedded > 0 THEN
        UPDATE infinity_embed.targets AS t SET written = t.written + settle_jobs.embedded,
            counted = settle_jobs.embedded + CASE WHEN t.counted_since > moment - minute THEN t.counted ELSE 0 END,
            counted_since = CASE WHEN t.counted_since > moment - minute THEN t.counted_since
                                 ELSE moment - seconds * interval '1 second' END,
            problem = NULL, paused_until = NULL
        WHERE t.id = target_id;
    END IF;
    -- A row that fails for a reason of its own shows that others can be embedded.
    IF problem IS NOT NULL OR cardinality(failed) > 0 THEN
        PERFORM infinity_embed.note_problem(target_id, problem, moment + CASE WHEN problem IS NOT NULL THEN pause END);
    END IF;
END
$function$;
COMMENT ON FUNCTION infinity_embed.settle_jobs(integer, bigint, bigint, double precision, text[], text[], text[], text[], text[], text[], integer, text, interval) IS
    'records what became of claimed jobs';
