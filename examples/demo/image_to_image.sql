WITH asked AS MATERIALIZED (SELECT infinity_embed_image(image) AS query FROM images WHERE name = :'question')
SELECT name, round(maxsim(embedding, query)::numeric, 2) AS score
FROM pages, asked ORDER BY embedding @# query LIMIT 3;
