-- The demo's tables. `abstracts` and `images` hold the data as it ships; `passages` and `pages` are what is searched.
CREATE EXTENSION infinity_embed;

CREATE TABLE abstracts (id bigint PRIMARY KEY, title text NOT NULL, abstract text NOT NULL);
CREATE TABLE images (name text PRIMARY KEY, image bytea NOT NULL);

-- One token vector per word piece or per image patch. The dimension is whatever the server has; multivector(128, f16) would fix
-- it and halve the size.
CREATE TABLE passages (id bigint PRIMARY KEY, title text NOT NULL, abstract text NOT NULL, embedding multivector);
CREATE TABLE pages (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE, image bytea NOT NULL, embedding multivector);
