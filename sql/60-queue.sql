-- The queue: what is to be kept embedded, the changes that writers note, the backfill that
-- auto_embed() notes, and the jobs made of both.
--
-- Writers only append: a statement's changes go into a table without an index, so that noting 100,000
-- rows costs less than writing them, and no writer ever waits for another or for a worker. Whoever
-- works the queue off makes one job per row of them.
--
-- Whatever runs here runs as the extension's owner and evaluates nothing that belongs to a user: keys
-- and sources become text by their types' output functions (concat, format), never by casts or
-- operators, which anybody who owns a type can define.

CREATE TABLE infinity_embed.targets (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    relation regclass NOT NULL,
    target name NOT NULL,
    source text NOT NULL,
    source_columns name[] NOT NULL,
    key_columns name[] NOT NULL,
    kind text NOT NULL CHECK (kind IN ('text', 'image')),
    model text NOT NULL,
    dim integer,
    normalize boolean NOT NULL,
    pooling integer NOT NULL CHECK (pooling > 0),
    version integer NOT NULL DEFAULT 1,
    written bigint NOT NULL DEFAULT 0,
    counted_since timestamptz,
    counted bigint NOT NULL DEFAULT 0,
    problem text,
    paused_until timestamptz,
    switched_on_by name NOT NULL,
    UNIQUE (relation, target)
);
COMMENT ON SEQUENCE infinity_embed.targets_id_seq IS 'numbers the targets';
COMMENT ON TABLE infinity_embed.targets IS 'columns that are kept embedded; written by auto_embed()';
COMMENT ON COLUMN infinity_embed.targets.source IS 'SQL expression over the row; a plain column is a quoted name';
COMMENT ON COLUMN infinity_embed.targets.source_columns IS 'columns whose change makes a job';
COMMENT ON COLUMN infinity_embed.targets.dim IS 'dimension that the server must have; NULL takes the server''s';
COMMENT ON COLUMN infinity_embed.targets.pooling IS 'factor by which tokens are pooled before they are written';
COMMENT ON COLUMN infinity_embed.targets.version IS 'counts the definitions: what was claimed under another is not written';
COMMENT ON COLUMN infinity_embed.targets.written IS 'embeddings written since auto_embed()';
COMMENT ON COLUMN infinity_embed.targets.counted IS 'embeddings written since counted_since, which is a minute ago or less while there is work';
COMMENT ON COLUMN infinity_embed.targets.problem IS 'why nothing at all could be embedded last time';
COMMENT ON COLUMN infinity_embed.targets.switched_on_by IS 'role that called auto_embed(); by name, since a dump knows no OIDs';

CREATE TABLE infinity_embed.changes (
    target_id integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE infinity_embed.changes IS 'rows written since jobs were last made of them';
COMMENT ON COLUMN infinity_embed.changes.key IS 'the row''s primary key as text; a composite one as an array';

-- Apart from the changes, which have precedence: a backfill may be the whole table.
CREATE TABLE infinity_embed.backfill (
    target_id integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE infinity_embed.backfill IS 'rows that were there when auto_embed() was called, until jobs are made of them';
COMMENT ON COLUMN infinity_embed.backfill.key IS 'the row''s primary key as text; a composite one as an array';

-- claim is a number per claimed batch. A change of the row while its job is claimed takes the claim
-- away, so that whoever holds the batch can neither delete the job nor count against it.
CREATE TABLE infinity_embed.queue (
    target_id integer NOT NULL,
    key text COLLATE "C" NOT NULL,
    is_backfill boolean NOT NULL,
    enqueued_at timestamptz NOT NULL DEFAULT now(),
    not_before timestamptz NOT NULL DEFAULT now(),
    claim bigint,
    claimed_by integer,
    claimed_at timestamptz,
    leased_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    is_suspect boolean NOT NULL DEFAULT false,
    dead boolean NOT NULL DEFAULT false,
    error text,
    PRIMARY KEY (target_id, key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE infinity_embed.queue IS 'rows that wait for their embedding, one job each';
COMMENT ON COLUMN infinity_embed.queue.target_id IS 'the column to be embedded, in infinity_embed.targets';
COMMENT ON COLUMN infinity_embed.queue.key IS 'the row''s primary key as text; a composite one as an array';
COMMENT ON COLUMN infinity_embed.queue.is_backfill IS 'whether the row was there when auto_embed() was called, and has not changed since';
COMMENT ON COLUMN infinity_embed.queue.enqueued_at IS 'begin of the transaction that changed the row';
COMMENT ON COLUMN infinity_embed.queue.not_before IS 'when it may be tried, or tried again';
COMMENT ON COLUMN infinity_embed.queue.claim IS 'number of the batch that is being embedded; NULL while the job waits';
COMMENT ON COLUMN infinity_embed.queue.claimed_by IS 'process that embeds it';
COMMENT ON COLUMN infinity_embed.queue.leased_until IS 'when another process may take it in any case';
COMMENT ON COLUMN infinity_embed.queue.attempts IS 'how often the row itself failed; an outage of the server does not count';
COMMENT ON COLUMN infinity_embed.queue.is_suspect IS 'whether time ran out over it, or over the request that it was in: it is tried alone, mostly after others';
COMMENT ON COLUMN infinity_embed.queue.dead IS 'failed too often: it waits for a change of the row or retry_dead()';
COMMENT ON COLUMN infinity_embed.queue.error IS 'why the last attempt failed';
CREATE INDEX queue_ready ON infinity_embed.queue (target_id, is_suspect, is_backfill, not_before) WHERE NOT dead;
COMMENT ON INDEX infinity_embed.queue_ready IS 'finds the oldest jobs of a target';

CREATE SEQUENCE infinity_embed.claims;
COMMENT ON SEQUENCE infinity_embed.claims IS 'numbers the claimed batches';

SELECT pg_extension_config_dump('infinity_embed.targets', '');
SELECT pg_extension_config_dump('infinity_embed.targets_id_seq', '');
SELECT pg_extension_config_dump('infinity_embed.changes', '');
SELECT pg_extension_config_dump('infinity_embed.backfill', '');
SELECT pg_extension_config_dump('infinity_embed.queue', '');
SELECT pg_extension_config_dump('infinity_embed.claims', '');

-- Keys are compared as bytes, whatever the columns' collations.
CREATE FUNCTION infinity_embed.key_expression(key_columns name[], row_alias text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 100
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT CASE count(*)
        WHEN 1 THEN min(part)
        ELSE format('ARRAY[%s]::pg_catalog.text COLLATE pg_catalog."C"', string_agg(part, ', ' ORDER BY place))
    END
    FROM (SELECT format('pg_catalog.concat(%s.%I) COLLATE pg_catalog."C"', row_alias, name) AS part, place
          FROM unnest(key_columns) WITH ORDINALITY AS k(name, place)) AS parts
$function$;
COMMENT ON FUNCTION infinity_embed.key_expression(name[], text) IS
    'SQL that makes a job''s key of a row';

-- Whether two rows differ in a source: bytes for text and bytea, else what the types print.
CREATE FUNCTION infinity_embed.difference(relation regclass, source_columns name[]) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE COST 100
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT string_agg(CASE
        WHEN a.atttypid IN ('text'::regtype, 'varchar'::regtype) THEN
            format('o.%1$I COLLATE "C" IS DISTINCT FROM n.%1$I COLLATE "C"', a.attname)
        WHEN a.atttypid = 'bytea'::regtype THEN
            format('o.%1$I IS DISTINCT FROM n.%1$I', a.attname)
        ELSE
            format('format(''%%L'', o.%1$I) COLLATE "C" <> format(''%%L'', n.%1$I) COLLATE "C"', a.attname)
        END, ' OR ' ORDER BY a.attnum)
    FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attname = ANY (source_columns) AND NOT a.attisdropped
$function$;
COMMENT ON FUNCTION infinity_embed.difference(regclass, name[]) IS
    'SQL that compares the sources of the rows o and n';

CREATE FUNCTION infinity_embed.missing_column(relation regclass, names name[]) RETURNS name
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE COST 100
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN (SELECT c.name FROM unnest(names) WITH ORDINALITY AS c(name, place)
            WHERE NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = c.name
                              AND a.attnum > 0 AND NOT a.attisdropped)
            ORDER BY c.place LIMIT 1);
END
$function$;
COMMENT ON FUNCTION infinity_embed.missing_column(regclass, name[]) IS
    'the first of so many names that is no column of the table';

-- Starts the worker when the transaction commits, unless there is one that will see its changes.
CREATE FUNCTION infinity_embed.wake() RETURNS void
    AS 'MODULE_PATHNAME', 'queue_wake_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION infinity_embed.wake() IS 'asks for a worker at the end of the transaction';

CREATE FUNCTION infinity_embed.has_noted() RETURNS boolean
    AS 'MODULE_PATHNAME', 'queue_has_noted_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION infinity_embed.has_noted() IS 'whether this transaction itself has noted rows';

CREATE FUNCTION infinity_embed.has_worker() RETURNS boolean
    AS 'MODULE_PATHNAME', 'queue_has_worker_wrapper'
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 100;
COMMENT ON FUNCTION infinity_embed.has_worker() IS 'whether a worker runs in this database';

-- DML that names a partition fires the partition's statement triggers, DML that names the parent the
-- parent's: both have them, and both queue for the parent.
CREATE FUNCTION infinity_embed.enqueue() RETURNS trigger
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER PARALLEL UNSAFE COST 1000
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
    SET timezone = 'UTC'
    SET lc_monetary = 'C'
AS $function$
DECLARE
    target infinity_embed.targets;
    note constant text := 'INSERT INTO infinity_embed.changes (target_id, key) SELECT %s, %s';
    -- Each job is looked up by its key: there may be millions, and few of them gone.
    forget constant text := 'DELETE FROM infinity_embed.queue WHERE ctid = ANY (ARRAY(
        SELECT j.ctid FROM (%2$s ORDER BY 1) AS k(key) CROSS JOIN LATERAL (
            SELECT j.ctid FROM infinity_embed.queue AS j WHERE j.target_id = %1$s AND j.key = k.key FOR UPDATE) AS j))';
    new_key text;
    old_key text;
    gone text;
    is_rekeyed boolean;
    noted bigint := 0;
    named text;
    missing name;
BEGIN
    -- Without the transition table its name would be a temporary view of the caller's.
    FOREACH named IN ARRAY CASE TG_OP
        WHEN 'INSERT' THEN '{infinity_embed_new}'
        WHEN 'UPDATE' THEN '{infinity_embed_new,infinity_embed_old}'
        WHEN 'DELETE' THEN '{infinity_embed_old}'
        ELSE '{}' END::text[]
    LOOP
        IF to_regclass('pg_temp.' || named) IS NOT NULL
           OR NOT EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = TG_RELID AND g.tgname = TG_NAME
                          AND named IN (g.tgnewtable, g.tgoldtable)) THEN
            RAISE EXCEPTION 'trigger "%" of % has no transition table "%" of its own', TG_NAME, TG_RELID::regclass, named
                USING ERRCODE = 'trigger_protocol_violated',
                      HINT = 'Drop the trigger or a temporary table of that name; infinity_embed.auto_embed() makes the triggers.';
        END IF;
    END LOOP;
    FOR target IN
        SELECT t.* FROM infinity_embed.targets AS t
        WHERE t.relation = TG_RELID OR t.relation IN (SELECT a.relid FROM pg_partition_ancestors(TG_RELID) AS a)
    LOOP
        missing := infinity_embed.missing_column(TG_RELID, CASE TG_OP
            WHEN 'TRUNCATE' THEN '{}'
            WHEN 'DELETE' THEN target.key_columns
            ELSE target.key_columns || target.source_columns END);
        IF missing IS NOT NULL THEN
            RAISE EXCEPTION 'column "%" of % does not exist', missing, TG_RELID::regclass
                USING ERRCODE = 'undefined_column', SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, COLUMN = missing,
                      DETAIL = format('Column "%s" of %s is kept embedded, and was defined with it.', target.target, target.relation),
                      HINT = format('Call infinity_embed.auto_embed() for "%1$s" again, or infinity_embed.stop_auto_embed(%2$L, %1$L).',
                                    target.target, target.relation);
        END IF;
        new_key := infinity_embed.key_expression(target.key_columns, 'n');
        old_key := infinity_embed.key_expression(target.key_columns, 'o');
        CASE TG_OP
        WHEN 'INSERT' THEN
            EXECUTE format(note || ' FROM infinity_embed_new AS n', target.id, new_key);
            GET DIAGNOSTICS noted = ROW_COUNT;
        WHEN 'UPDATE' THEN
            gone := format('SELECT %s FROM infinity_embed_old AS o EXCEPT ALL SELECT %s FROM infinity_embed_new AS n',
                           old_key, new_key);
            EXECUTE format('SELECT EXISTS (%s)', gone) INTO is_rekeyed;
            IF is_rekeyed THEN
                -- A key may have gone from one row to another, which may have waited under its old one.
                EXECUTE format(note || ' FROM infinity_embed_new AS n', target.id, new_key);
                GET DIAGNOSTICS noted = ROW_COUNT;
                EXECUTE format(forget, target.id, gone);
            ELSE
                -- The same keys belong to the same rows: a primary key that is not deferrable cannot be permuted.
                EXECUTE format(note || ' FROM infinity_embed_new AS n JOIN infinity_embed_old AS o ON %s = %s WHERE %s',
                    target.id, new_key, new_key, old_key,
                    infinity_embed.difference(TG_RELID, target.source_columns));
                GET DIAGNOSTICS noted = ROW_COUNT;
            END IF;
        WHEN 'DELETE' THEN
            EXECUTE format(forget, target.id, format('SELECT %s FROM infinity_embed_old AS o', old_key));
        WHEN 'TRUNCATE' THEN
            -- Of a truncated partition the jobs go when it is seen that their rows have gone.
            DELETE FROM infinity_embed.queue WHERE target_id = target.id AND target.relation = TG_RELID;
            DELETE FROM infinity_embed.changes WHERE target_id = target.id AND target.relation = TG_RELID;
            DELETE FROM infinity_embed.backfill WHERE target_id = target.id AND target.relation = TG_RELID;
        END CASE;
        IF noted > 0 THEN
            PERFORM infinity_embed.wake();
        END IF;
    END LOOP;
    RETURN NULL;
END
$function$;
COMMENT ON FUNCTION infinity_embed.enqueue() IS 'statement trigger of auto_embed(): notes the changed rows';
