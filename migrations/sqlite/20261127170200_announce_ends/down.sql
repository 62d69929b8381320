DROP TABLE announced_ends;
