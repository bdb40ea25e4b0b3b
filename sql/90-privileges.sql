-- Whatever calls out is nobody's until infinity_embed.allow(role) grants it.

REVOKE ALL ON FUNCTION
    infinity_embed_text(text, text),
    infinity_embed_texts(text[], text),
    infinity_embed_image(bytea, text),
    infinity_embed_images(bytea[], text),
    infinity_embed_health(),
    infinity_embed_models(),
    infinity_embed_text_trigger(),
    infinity_embed_image_trigger(),
    infinity_embed.auto_embed(regclass, text, text, text, boolean, integer, boolean),
    infinity_embed.auto_embed(regclass, text[], text, text, boolean, integer, boolean)
FROM PUBLIC;

-- process_queue() works for every table, so it is for those who run the server. The rest is called
-- by C as the extension's owner, who also makes the triggers of enqueue(): for that, not for firing them,
-- EXECUTE is needed.
REVOKE ALL ON PROCEDURE infinity_embed.process_queue(bigint) FROM PUBLIC;
REVOKE ALL ON FUNCTION
    infinity_embed.define_target(regclass, text, name[], text, name, text, integer, boolean, integer, boolean, name),
    infinity_embed.enqueue(),
    infinity_embed.key_expression(name[], text),
    infinity_embed.difference(regclass, name[]),
    infinity_embed.key_match(infinity_embed.targets, text),
    infinity_embed.statements(infinity_embed.targets),
    infinity_embed.checked_key(regclass),
    infinity_embed.forget_dropped(regclass),
    infinity_embed.multivector_type(),
    infinity_embed.forget_rows(integer[]),
    infinity_embed.make_triggers(regclass),
    infinity_embed.drop_triggers(regclass),
    infinity_embed.remove_target(regclass, name),
    infinity_embed.requeue_dead(regclass),
    infinity_embed.wake(),
    infinity_embed.forget_orphans(),
    infinity_embed.tidy_queue(),
    infinity_embed.make_jobs(integer, integer[]),
    infinity_embed.make_jobs_of(boolean, integer),
    infinity_embed.has_live_jobs(integer),
    infinity_embed.is_anything_waiting(),
    infinity_embed.batches_waiting(integer, integer, integer),
    infinity_embed.claim_jobs(integer, integer, interval, boolean, integer[]),
    infinity_embed.note_problem(integer, text, timestamptz),
    infinity_embed.ready_jobs(integer, boolean, boolean, timestamptz, integer),
    infinity_embed.claimed_jobs(integer, bigint, text[]),
    infinity_embed.settle_jobs(integer, bigint, bigint, double precision, text[], text[], text[], text[], text[], text[], integer, text, interval)
FROM PUBLIC;

-- SECURITY INVOKER: GRANT itself decides whether the caller may. The functions' schema is where
-- the extension was installed, which is known only when this runs.
CREATE FUNCTION infinity_embed.allow(role regrole) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 100
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    outgoing regprocedure;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
        RAISE EXCEPTION 'role with OID % does not exist', role::oid USING ERRCODE = 'undefined_object';
    END IF;
    FOR outgoing IN SELECT * FROM infinity_embed.outgoing_functions() LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', outgoing, role);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION infinity_embed.allow(regrole) IS
    'lets a role call the Infinity server: grants EXECUTE on every function that does';

CREATE FUNCTION infinity_embed.disallow(role regrole) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE COST 100
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    outgoing regprocedure;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE oid = role) THEN
        RAISE EXCEPTION 'role with OID % does not exist', role::oid USING ERRCODE = 'undefined_object';
    END IF;
    FOR outgoing IN SELECT * FROM infinity_embed.outgoing_functions() LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM %s', outgoing, role);
    END LOOP;
END
$function$;
COMMENT ON FUNCTION infinity_embed.disallow(regrole) IS
    'takes back what infinity_embed.allow granted';

CREATE FUNCTION infinity_embed.outgoing_functions() RETURNS SETOF regprocedure
    LANGUAGE sql STABLE STRICT PARALLEL SAFE COST 100 ROWS 8
    SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT p.oid::regprocedure
    FROM pg_extension e
    JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
                    AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
    JOIN pg_proc p ON p.oid = d.objid
    WHERE e.extname = 'infinity_embed'
      AND (p.pronamespace = e.extnamespace AND p.proname LIKE 'infinity\_embed\_%'
           OR p.pronamespace = 'infinity_embed'::regnamespace AND p.proname = 'auto_embed')
    ORDER BY p.proname, p.oid
$function$;
COMMENT ON FUNCTION infinity_embed.outgoing_functions() IS
    'functions of the extension that call the Infinity server';

REVOKE ALL ON FUNCTION infinity_embed.allow(regrole), infinity_embed.disallow(regrole) FROM PUBLIC;
