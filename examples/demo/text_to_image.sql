WITH asked AS MATERIALIZED (SELECT infinity_embed_text(:'question') AS query)
SELECT name, round(maxsim(embedding, query)::numeric, 2) AS score
FROM pages, asked ORDER BY embedding @# query LIMIT 3;
