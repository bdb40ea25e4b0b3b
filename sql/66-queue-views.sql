-- To look at the queue, and to wait for it.

CREATE VIEW infinity_embed.status AS
    SELECT t.relation, t.target, t.model,
           (SELECT sum(greatest(p.reltuples, 0)) FROM pg_catalog.pg_class AS p
            WHERE p.relkind = 'r' AND (p.oid = t.relation
                  OR p.oid IN (SELECT part.relid FROM pg_catalog.pg_partition_tree(t.relation) AS part)))::bigint AS rows,
           t.embedded,
           coalesce(j.pending, 0) + coalesce(n.pending, 0) AS pending,
           coalesce(j.failed, 0) AS failed,
           coalesce(j.dead, 0) AS dead,
           least(j.oldest, n.oldest) AS oldest_pending,
           CASE WHEN t.counted_since > pg_catalog.clock_timestamp() - interval '2 minutes' THEN t.counted
                    / greatest(extract(epoch FROM pg_catalog.clock_timestamp() - t.counted_since)::float8, 0.001)
                ELSE 0 END AS rate,
           t.problem
    FROM infinity_embed.targets AS t
    JOIN pg_catalog.pg_class AS c ON c.oid = t.relation
    LEFT JOIN (
        SELECT j.target_id, count(*) FILTER (WHERE NOT j.dead) AS pending,
               count(*) FILTER (WHERE NOT j.dead AND j.attempts > 0) AS failed,
               count(*) FILTER (WHERE j.dead) AS dead,
               min(j.enqueued_at) FILTER (WHERE NOT j.dead) AS oldest
        FROM infinity_embed.queue AS j GROUP BY j.target_id) AS j ON j.target_id = t.id
    LEFT JOIN (
        SELECT w.target_id, count(DISTINCT w.key) AS pending, min(w.changed_at) AS oldest
        FROM (TABLE infinity_embed.changes UNION ALL TABLE infinity_embed.backfill) AS w
        WHERE NOT EXISTS (SELECT FROM infinity_embed.queue AS j WHERE j.target_id = w.target_id AND j.key = w.key)
        GROUP BY w.target_id) AS n ON n.target_id = t.id;
COMMENT ON VIEW infinity_embed.status IS 'how far each column that is kept embedded has come';
COMMENT ON COLUMN infinity_embed.status.rows IS 'the planner''s estimate';
COMMENT ON COLUMN infinity_embed.status.embedded IS 'embeddings written since auto_embed()';
COMMENT ON COLUMN infinity_embed.status.failed IS 'pending rows that failed before and will be tried again';
COMMENT ON COLUMN infinity_embed.status.rate IS 'rows embedded per second, over one or two minutes until now';

CREATE VIEW infinity_embed.errors AS
    SELECT t.relation, t.target, j.key, j.error, j.attempts, j.dead,
           CASE WHEN NOT j.dead THEN j.not_before END AS next_attempt
    FROM infinity_embed.queue AS j
    JOIN infinity_embed.targets AS t ON t.id = j.target_id
    WHERE j.error IS NOT NULL;
COMMENT ON VIEW infinity_embed.errors IS 'rows that could not be embedded, and why';

GRANT SELECT ON infinity_embed.targets, infinity_embed.queue, infinity_embed.changes,
    infinity_embed.backfill, infinity_embed.status, infinity_embed.errors TO pg_monitor;

-- SECURITY DEFINER, so that a table's owner may wait: it tells no more than whether rows are pending.
CREATE FUNCTION infinity_embed.wait(relation regclass DEFAULT NULL, timeout interval DEFAULT '1 hour')
    RETURNS boolean
    LANGUAGE plpgsql VOLATILE CALLED ON NULL INPUT SECURITY DEFINER PARALLEL UNSAFE COST 100000
    SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    deadline constant timestamptz := clock_timestamp() + timeout;
BEGIN
    WHILE EXISTS (
        SELECT FROM infinity_embed.targets AS t
        WHERE (wait.relation IS NULL OR t.relation = wait.relation)
          AND (EXISTS (SELECT FROM infinity_embed.queue AS j WHERE j.target_id = t.id AND NOT j.dead)
               OR EXISTS (SELECT FROM infinity_embed.changes AS w WHERE w.target_id = t.id)
               OR EXISTS (SELECT FROM infinity_embed.backfill AS w WHERE w.target_id = t.id)))
    LOOP
        IF clock_timestamp() >= deadline THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(0.05);
    END LOOP;
    RETURN true;
END
$function$;
COMMENT ON FUNCTION infinity_embed.wait(regclass, interval) IS
    'waits until no row of a table (or of any) is pending; false when the time is up';
