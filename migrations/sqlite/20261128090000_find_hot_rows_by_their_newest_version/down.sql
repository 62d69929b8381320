DELETE FROM tolerated_migrations WHERE version = '20261128090000';
