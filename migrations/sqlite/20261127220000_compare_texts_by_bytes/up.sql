-- SQLite compares texts by their bytes unless it is told otherwise.
SELECT 1;
