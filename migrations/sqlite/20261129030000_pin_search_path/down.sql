DELETE FROM tolerated_migrations WHERE version = '20261129030000';
