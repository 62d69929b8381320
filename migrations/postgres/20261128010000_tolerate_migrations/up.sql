-- Which migrations an older program can work beside, without knowing them: those programs that know `known_since`. A
-- migration without a row is for programs that know it only. Each one that follows says so here, or says why it cannot.
CREATE TABLE tolerated_migrations (
    version      TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    known_since  TEXT COLLATE "C" NOT NULL
);
INSERT INTO tolerated_migrations (version, known_since) VALUES ('20261128010000', '20261127220000');
