WITH asked AS MATERIALIZED (SELECT infinity_embed_text(:'question') AS query)
SELECT id, round(maxsim(embedding, query)::numeric, 2) AS score, left(title, 72) AS title
FROM passages, asked ORDER BY embedding @# query LIMIT 3;
