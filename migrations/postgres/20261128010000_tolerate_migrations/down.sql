DROP TABLE tolerated_migrations;
