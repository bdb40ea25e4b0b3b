-- Switching it on and off. What users call is C: it checks, as the caller, that the table is theirs, and
-- then calls its namesake below as the extension's owner.

CREATE FUNCTION infinity_embed.auto_embed(relation regclass, source text, target text,
        model text DEFAULT NULL, normalized boolean DEFAULT NULL, pooling integer DEFAULT 1,
        only_missing boolean DEFAULT false)
    RETURNS text
    AS 'MODULE_PATHNAME', 'queue_auto_embed_wrapper'
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION infinity_embed.auto_embed(regclass, text, text, text, boolean, integer, boolean) IS
    'keeps a column embedded from now on, and queues the rows that are there';

CREATE FUNCTION infinity_embed.auto_embed(relation regclass, source text[], target text,
        model text DEFAULT NULL, normalized boolean DEFAULT NULL, pooling integer DEFAULT 1,
        only_missing boolean DEFAULT false)
    RETURNS text
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 100000
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT infinity_embed.auto_embed(relation, infinity_embed.joined_columns(relation, source), target, model,
                                     normalized, pooling, only_missing)
$function$;
COMMENT ON FUNCTION infinity_embed.auto_embed(regclass, text[], text, text, boolean, integer, boolean) IS
    'the same for a source of several columns, joined by line breaks';

CREATE FUNCTION infinity_embed.stop_auto_embed(relation regclass, target text DEFAULT NULL)
    RETURNS text
    AS 'MODULE_PATHNAME', 'queue_stop_auto_embed_wrapper'
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION infinity_embed.stop_auto_embed(regclass, text) IS
    'undoes auto_embed() for one column or all; the embeddings stay';

CREATE FUNCTION infinity_embed.retry_dead(relation regclass) RETURNS bigint
    AS 'MODULE_PATHNAME', 'queue_retry_dead_wrapper'
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 100000;
COMMENT ON FUNCTION infinity_embed.retry_dead(regclass) IS
    'queues the dead jobs of a table again';

-- NULL where no column has any text, so that there is nothing to embed.
CREATE FUNCTION infinity_embed.joined_columns(relation regclass, source_columns text[]) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE COST 1000
    SET search_path = pg_catalog, pg_temp
    SET quote_all_identifiers = off
AS $function$
DECLARE
    wrong text;
BEGIN
    IF cardinality(source_columns) = 0 OR array_position(source_columns, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'source must be names of columns' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    wrong := infinity_embed.missing_column(relation, source_columns::name[]);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'column "%" of % does not exist', wrong, relation USING ERRCODE = 'undefined_column';
    END IF;
    IF cardinality(source_columns) = 1 THEN
        RETURN source_columns[1];
    END IF;
    SELECT a.attname INTO wrong FROM pg_attribute AS a
    WHERE a.attrelid = relation AND a.attname = ANY (source_columns) AND a.atttypid = 'bytea'::regtype;
    IF FOUND THEN
        RAISE EXCEPTION 'column "%" of % is an image, which cannot be joined with other columns', wrong, relation
            USING ERRCODE = 'datatype_mismatch', HINT = 'Embed it into a column of its own.';
    END IF;
    RETURN (SELECT format($source$nullif(pg_catalog.concat_ws(E'\n', %s), '')$source$,
                          string_agg(quote_ident(c.name), ', ' ORDER BY c.place))
            FROM unnest(source_columns) WITH ORDINALITY AS c(name, place));
END
$function$;
COMMENT ON FUNCTION infinity_embed.joined_columns(regclass, text[]) IS
    'the source of auto_embed() that several columns make together';

CREATE FUNCTION infinity_embed.primary_key(relation regclass) RETURNS name[]
    LANGUAGE sql STABLE STRICT PARALLEL SAFE COST 100
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT array_agg(a.attname ORDER BY k.place)
    FROM pg_index AS i
    CROSS JOIN unnest(i.indkey) WITH ORDINALITY AS k(number, place)
    JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
    WHERE i.indrelid = relation AND i.indisprimary AND i.indimmediate AND k.place <= i.indnkeyatts
$function$;
COMMENT ON FUNCTION infinity_embed.primary_key(regclass) IS
    'columns of the primary key, NULL without one that is not deferrable';

CREATE FUNCTION infinity_embed.hides_rows(relation regclass) RETURNS boolean
    LANGUAGE sql STABLE STRICT PARALLEL SAFE COST 100
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT c.relrowsecurity AND c.relforcerowsecurity AND NOT (r.rolsuper OR r.rolbypassrls)
    FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner WHERE c.oid = relation
$function$;
COMMENT ON FUNCTION infinity_embed.hides_rows(regclass) IS
    'whether row-level security applies to the table''s own owner, as whom it is read and written';

-- Whether what was switched on could be switched on today, by the role that did it or by the owner: one of them is a superuser,
-- or was let call out and, as the owner is, is entitled to the table.
CREATE FUNCTION infinity_embed.is_allowed(definition infinity_embed.targets) RETURNS boolean
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE COST 1000
    SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RETURN EXISTS (
        SELECT FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner OR r.rolname = definition.switched_on_by
        WHERE c.oid = definition.relation AND pg_has_role(r.oid, c.relowner, 'USAGE') AND has_function_privilege(r.oid,
            'infinity_embed.auto_embed(regclass, text, text, text, boolean, integer, boolean)'::regprocedure, 'EXECUTE'));
END
$function$;
COMMENT ON FUNCTION infinity_embed.is_allowed(infinity_embed.targets) IS
    'whether the sources of a target may be sent to the Infinity server';

-- Anybody may ask: it tells nothing but what the system catalogs show to all.
CREATE FUNCTION infinity_embed.definition_problem(definition infinity_embed.targets, OUT problem text, OUT hint text)
    RETURNS record
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE COST 1000
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    missing constant name := infinity_embed.missing_column(definition.relation,
        definition.key_columns || definition.source_columns || definition.target);
BEGIN
    IF missing IS NOT NULL THEN
        problem := format('column "%s" of %s does not exist', missing, definition.relation);
        hint := format('Call infinity_embed.auto_embed() again, or infinity_embed.stop_auto_embed(%L, %L).',
                       definition.relation, definition.target);
    ELSIF infinity_embed.primary_key(definition.relation) IS DISTINCT FROM definition.key_columns THEN
        problem := format('the primary key of %s has changed', definition.relation);
        hint := 'Call infinity_embed.auto_embed() again.';
    ELSIF infinity_embed.hides_rows(definition.relation) THEN
        problem := format('row-level security hides rows of %s from its owner', definition.relation);
        hint := format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY, or give its owner BYPASSRLS.', definition.relation);
    ELSIF EXISTS (SELECT FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhparent
                  WHERE c.oid = definition.relation AND c.relkind = 'r') THEN
        -- Two rows may have one key then.
        problem := format('%s has child tables', definition.relation);
        hint := format('ALTER TABLE ... NO INHERIT %1$s, or infinity_embed.stop_auto_embed(%1$L, %2$L).',
                       definition.relation, definition.target);
    ELSIF NOT infinity_embed.is_allowed(definition) THEN
        problem := format('neither the owner of %s nor role "%s", which called auto_embed(), may call the Infinity server for it',
                          definition.relation, definition.switched_on_by);
        hint := format('SELECT infinity_embed.allow(%L), or infinity_embed.stop_auto_embed(%L, %L).',
                       (SELECT quote_ident(r.rolname) FROM pg_class AS c JOIN pg_roles AS r ON r.oid = c.relowner
                        WHERE c.oid = definition.relation), definition.relation, definition.target);
    END IF;
END
$function$;
COMMENT ON FUNCTION infinity_embed.definition_problem(infinity_embed.targets) IS
    'why nothing of a target can be embedded since its table was altered, and what to do; NULL if it can be';

CREATE FUNCTION infinity_embed.checked_key(relation regclass) RETURNS name[]
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE COST 1000
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    class pg_class;
    key_columns name[];
BEGIN
    SELECT c.* INTO class FROM pg_class AS c WHERE c.oid = relation;
    IF class.relkind NOT IN ('r', 'p') OR class.relpersistence = 't' OR class.relnamespace = 'pg_catalog'::regnamespace THEN
        RAISE EXCEPTION '% is not an ordinary table', relation USING ERRCODE = 'wrong_object_type',
            HINT = 'auto_embed() works on logged and unlogged tables and on partitioned ones.';
    END IF;
    IF class.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = relation) THEN
        RAISE EXCEPTION '% has child tables', relation USING ERRCODE = 'feature_not_supported',
            HINT = 'Use declarative partitioning, or auto_embed() on each child.';
    END IF;
    IF class.relispartition THEN
        RAISE EXCEPTION '% is a partition', relation USING ERRCODE = 'wrong_object_type',
            HINT = format('Call auto_embed() for %s.', (SELECT a.relid FROM pg_partition_ancestors(relation) AS a
                          WHERE NOT (SELECT c.relispartition FROM pg_class AS c WHERE c.oid = a.relid)));
    END IF;
    IF infinity_embed.hides_rows(relation) THEN
        RAISE EXCEPTION 'row-level security hides rows of % from its owner', relation
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'Rows are read and written as the table''s owner.',
                  HINT = format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY, or give its owner BYPASSRLS.', relation);
    END IF;
    key_columns := infinity_embed.primary_key(relation);
    IF key_columns IS NULL THEN
        RAISE EXCEPTION '% has no primary key', relation USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Add one that is not deferrable: jobs name rows by it.';
    END IF;
    RETURN key_columns;
END
$function$;
COMMENT ON FUNCTION infinity_embed.checked_key(regclass) IS
    'primary key of a table that auto_embed() can serve';

CREATE FUNCTION infinity_embed.define_target(relation regclass, source text, source_columns name[], kind text,
        target name, model text, dim integer, normalized boolean, pooling integer, only_missing boolean, caller name)
    RETURNS text
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
    SET timezone = 'UTC'
    SET lc_monetary = 'C'
AS $function$
#variable_conflict use_variable
DECLARE
    key_columns constant name[] := infinity_embed.checked_key(relation);
    before infinity_embed.targets;
    target_id integer;
    target_type oid;
    part regclass;
    queued bigint;
    is_used boolean;
    is_changed boolean;
    condition text := 'true';
BEGIN
    SELECT a.atttypid INTO target_type FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = target
        AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND target <> ALL (source_columns)
        AND (a.atttypid IN ('real[]'::regtype, 'double precision[]'::regtype)
             OR EXISTS (SELECT FROM pg_cast AS c WHERE c.castsource = 'real[]'::regtype
                        AND c.casttarget = a.atttypid AND c.castcontext IN ('a', 'i')));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column "%" of % cannot hold embeddings', target, relation
            USING ERRCODE = 'datatype_mismatch', HINT = 'It must be a plain column of type multivector or real[].';
    END IF;
    -- Triggers see NULL in them, before and after.
    IF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = relation AND a.attname = ANY (source_columns)
               AND a.attgenerated = 'v') THEN
        RAISE EXCEPTION 'source of "%" of % is a virtual generated column', target, relation
            USING ERRCODE = 'feature_not_supported', DETAIL = 'Triggers do not see when its value changes.',
                  HINT = 'Make the column STORED, or write its expression as the source.';
    END IF;
    -- The statements that read and write have columns of these names beside the row's.
    IF source_columns && '{infinity_embed_key,infinity_embed_fingerprint}'::name[] THEN
        RAISE EXCEPTION 'source of "%" of % is a column with a name of the queue''s own', target, relation
            USING ERRCODE = 'reserved_name', DETAIL = 'It is infinity_embed_key or infinity_embed_fingerprint.',
                  HINT = 'Rename the column.';
    END IF;
    IF pooling < 1 THEN
        RAISE EXCEPTION 'pooling must be at least 1, not %', pooling USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF pooling > 1 AND target_type <> infinity_embed.multivector_type() THEN
        RAISE EXCEPTION 'pooling needs a multivector, and column "%" of % is of type %',
                target, relation, format_type(target_type, NULL)
            USING ERRCODE = 'datatype_mismatch',
                  HINT = format('ALTER TABLE %s ALTER %I TYPE multivector, or leave pooling out.', relation, target);
    END IF;
    PERFORM infinity_embed.forget_dropped(relation);
    FOR part IN SELECT t.relid FROM pg_partition_tree(relation) AS t
                UNION SELECT relation LOOP
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', part);
        -- By its name, which may have gone to another while the lock was waited for.
        IF NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = pg_backend_pid() AND l.relation = part AND l.granted
                       AND l.mode = 'ShareRowExclusiveLock') THEN
            RAISE EXCEPTION 'table % was renamed meanwhile', part USING ERRCODE = 'object_in_use', HINT = 'Try again.';
        END IF;
        PERFORM infinity_embed.make_triggers(part);
    END LOOP;
    SELECT t.* INTO before FROM infinity_embed.targets AS t WHERE t.relation = relation AND t.target = target;
    IF before.model <> model OR before.normalize <> normalized THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I IS NOT NULL)', relation, target) INTO is_used;
        IF is_used THEN
            RAISE EXCEPTION 'column "%" of % holds embeddings of model "%"', target, relation, before.model
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      DETAIL = 'Embeddings of two models, or with and without normalization, cannot be ranked together.',
                      HINT = 'Add a column, call auto_embed() for it with the new model, and drop the old column when the new one is filled.';
        END IF;
    END IF;
    -- What fills it was remembered by nobody, so that it may be another model's.
    IF before.id IS NULL AND only_missing THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %s WHERE %I IS NOT NULL)', relation, target) INTO is_used;
        IF is_used THEN
            RAISE EXCEPTION 'column "%" of % holds values of which it is not known that model "%" made them', target, relation, model
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Leave only_missing out to embed all rows, or empty the column first.';
        END IF;
    END IF;
    is_changed := before.id IS NOT NULL
        AND (before.source, before.key_columns, before.kind, before.model, before.dim, before.normalize, before.pooling)
            IS DISTINCT FROM (source, key_columns, kind, model, dim, normalized, pooling);
    INSERT INTO infinity_embed.targets AS t
        (relation, target, source, source_columns, key_columns, kind, model, dim, normalize, pooling, switched_on_by)
    VALUES (relation, target, source, source_columns, key_columns, kind, model, dim, normalized, pooling, caller)
    ON CONFLICT ON CONSTRAINT targets_relation_target_key DO UPDATE SET
        source = EXCLUDED.source, source_columns = EXCLUDED.source_columns, key_columns = EXCLUDED.key_columns,
        kind = EXCLUDED.kind, model = EXCLUDED.model, dim = EXCLUDED.dim, normalize = EXCLUDED.normalize,
        pooling = EXCLUDED.pooling, switched_on_by = EXCLUDED.switched_on_by,
        version = t.version + 1, problem = NULL, paused_until = NULL
    RETURNING t.id INTO target_id;
    -- Of embeddings made by another definition none may stay, and jobs may be named by another key.
    IF is_changed THEN
        PERFORM infinity_embed.forget_rows(ARRAY[target_id]);
    ELSIF only_missing THEN
        condition := format('n.%I IS NULL', target);
    END IF;
    EXECUTE format(
        'INSERT INTO infinity_embed.backfill (target_id, key) SELECT %s, %s FROM %s AS n WHERE %s',
        target_id, infinity_embed.key_expression(key_columns, 'n'), relation, condition);
    GET DIAGNOSTICS queued = ROW_COUNT;
    IF queued > 0 THEN
        PERFORM infinity_embed.wake();
    END IF;
    RETURN format('%s.%I is kept embedded from %s with model "%s"; %s rows queued', relation, target, source, model, queued);
END
$function$;
COMMENT ON FUNCTION infinity_embed.define_target(regclass, text, name[], text, name, text, integer, boolean, integer, boolean, name) IS
    'implementation of auto_embed()';

CREATE FUNCTION infinity_embed.multivector_type() RETURNS regtype
    LANGUAGE sql STABLE STRICT PARALLEL SAFE COST 100
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT t.oid::regtype FROM pg_extension AS e
    JOIN pg_type AS t ON t.typnamespace = e.extnamespace AND t.typname = 'multivector'
    WHERE e.extname = 'infinity_embed'
$function$;
COMMENT ON FUNCTION infinity_embed.multivector_type() IS
    'the type multivector, wherever the extension was installed';

CREATE FUNCTION infinity_embed.forget_rows(ids integer[]) RETURNS bigint
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
    WITH jobs AS (DELETE FROM infinity_embed.queue AS j WHERE j.target_id = ANY (ids) RETURNING j.target_id, j.key),
    changes AS (DELETE FROM infinity_embed.changes AS c WHERE c.target_id = ANY (ids) RETURNING c.target_id, c.key),
    backfill AS (DELETE FROM infinity_embed.backfill AS b WHERE b.target_id = ANY (ids) RETURNING b.target_id, b.key)
    SELECT count(*) FROM (TABLE jobs UNION TABLE changes UNION TABLE backfill) AS rows
$function$;
COMMENT ON FUNCTION infinity_embed.forget_rows(integer[]) IS
    'takes all rows of targets out of the queue; gives how many waited';

-- What another transaction is about to forget, or has claimed, is left to it.
CREATE FUNCTION infinity_embed.forget_dropped(relation regclass) RETURNS void
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
    WITH gone AS (
        DELETE FROM infinity_embed.targets AS t WHERE t.id = ANY (ARRAY(
            SELECT t.id FROM infinity_embed.targets AS t
            WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = t.relation)
               OR t.relation = forget_dropped.relation AND infinity_embed.missing_column(t.relation, ARRAY[t.target]) IS NOT NULL
            FOR UPDATE SKIP LOCKED))
        RETURNING t.id)
    SELECT infinity_embed.forget_rows(array_agg(g.id)) FROM gone AS g
$function$;
COMMENT ON FUNCTION infinity_embed.forget_dropped(regclass) IS
    'forgets the targets of tables that were dropped, and of one table those whose column was';

CREATE FUNCTION infinity_embed.make_triggers(relation regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    event text;
    tables text;
BEGIN
    FOR event, tables IN VALUES
        ('insert', 'REFERENCING NEW TABLE AS infinity_embed_new'),
        ('update', 'REFERENCING OLD TABLE AS infinity_embed_old NEW TABLE AS infinity_embed_new'),
        ('delete', 'REFERENCING OLD TABLE AS infinity_embed_old'),
        ('truncate', '')
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER infinity_embed_%s AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION infinity_embed.enqueue()',
            event, event, relation, tables);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION infinity_embed.make_triggers(regclass) IS 'puts the queue''s triggers on a table or partition';

-- A detached partition has them still; an attached table may have them for its parent's sake.
CREATE FUNCTION infinity_embed.drop_triggers(relation regclass) RETURNS bigint
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    part regclass;
    name name;
    dropped bigint := 0;
BEGIN
    IF EXISTS (SELECT FROM infinity_embed.targets AS t WHERE t.relation = drop_triggers.relation
               OR t.relation IN (SELECT a.relid FROM pg_partition_ancestors(drop_triggers.relation) AS a)) THEN
        RETURN 0;
    END IF;
    FOR part, name IN
        SELECT g.tgrelid, g.tgname FROM pg_trigger AS g
        WHERE g.tgfoid = 'infinity_embed.enqueue()'::regprocedure
          AND (g.tgrelid = relation OR g.tgrelid IN (SELECT p.relid FROM pg_partition_tree(relation) AS p))
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', name, part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$function$;
COMMENT ON FUNCTION infinity_embed.drop_triggers(regclass) IS
    'takes the queue''s triggers off a table and its partitions, unless they are needed; gives how many';

CREATE FUNCTION infinity_embed.remove_target(relation regclass, target name) RETURNS text
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    ids integer[];
    jobs bigint;
    is_left_over boolean;
BEGIN
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', relation);
    WITH gone AS (
        DELETE FROM infinity_embed.targets AS t
        WHERE t.relation = relation AND (target IS NULL OR t.target = target) RETURNING t.id)
    SELECT array_agg(g.id) INTO ids FROM gone AS g;
    IF ids IS NOT NULL THEN
        jobs := infinity_embed.forget_rows(ids);
        PERFORM infinity_embed.forget_dropped(relation);
    END IF;
    is_left_over := infinity_embed.drop_triggers(relation) > 0 AND target IS NULL;
    IF ids IS NULL AND is_left_over THEN
        RETURN format('%s is not kept embedded; its triggers were left over and have been dropped', relation);
    ELSIF ids IS NULL THEN
        RAISE EXCEPTION 'no column of % is kept embedded', relation USING ERRCODE = 'undefined_object';
    END IF;
    RETURN format('%s is no longer kept embedded; %s jobs dropped', relation, jobs);
END
$function$;
COMMENT ON FUNCTION infinity_embed.remove_target(regclass, name) IS 'implementation of stop_auto_embed()';

CREATE FUNCTION infinity_embed.requeue_dead(relation regclass) RETURNS bigint
    LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE COST 10000
    SET search_path = pg_catalog, pg_temp
AS $function$
    WITH again AS (
        UPDATE infinity_embed.queue AS j SET dead = false, attempts = 0, not_before = now(), error = NULL
        FROM infinity_embed.targets AS t
        WHERE t.id = j.target_id AND t.relation = requeue_dead.relation AND j.dead
        RETURNING 1)
    SELECT count(*) FROM again, infinity_embed.wake()
$function$;
COMMENT ON FUNCTION infinity_embed.requeue_dead(regclass) IS 'implementation of retry_dead()';
