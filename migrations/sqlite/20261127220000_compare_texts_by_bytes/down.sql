-- The order of bytes is right for what was before, too.
SELECT 1;
