//! Many rows in one statement.

/// Numbers of rows in one statement of PostgreSQL, which keeps the plan of each: the number is a part of its text.
const LENGTHS: [usize; 8] = [256, 128, 64, 32, 16, 8, 4, 2];

/// The next rows for one statement, and those after them.
pub(crate) fn next_rows<T>(rows: &[T]) -> Option<(&[T], &[T])> {
    let length = LENGTHS.into_iter().find(|length| *length <= rows.len()).unwrap_or(1);
    rows.split_at_checked(length)
}

/// Inserts a slice of rows: at most 256 with one statement of PostgreSQL, which takes 65,535 parameters, and each with its
/// own on SQLite. All are prepared, if the row's struct says `treat_none_as_default_value = false`.
///
/// A macro, because a multi-row `VALUES` does not compile for the two at once.
macro_rules! insert_all {
    ($conn:expr, $table:expr, $rows:expr) => {
        match $conn {
            $crate::db::Conn::Postgres(conn) => {
                let (mut rest, mut outcome) = ($rows, Ok(()));
                while let (true, Some((rows, more))) = (outcome.is_ok(), $crate::db::next_rows(rest)) {
                    let one = diesel::dsl::sql::<diesel::sql_types::Integer>("1");
                    let insertion = diesel::insert_into($table).values(rows).returning(one);
                    outcome = diesel::RunQueryDsl::load::<i32>($crate::db::prepared(insertion), conn).map(drop);
                    rest = more;
                }
                outcome
            }
            $crate::db::Conn::Sqlite(conn) => $rows.iter().try_for_each(|row| {
                diesel::RunQueryDsl::execute(diesel::insert_into($table).values(row), conn).map(drop)
            }),
        }
    };
}

pub(crate) use insert_all;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_go_into_few_statements_of_few_lengths() {
        for (number, lengths) in
            [(0, &[][..]), (1, &[1]), (7, &[4, 2, 1]), (64, &[64]), (604, &[256, 256, 64, 16, 8, 4])]
        {
            let rows = vec![0_u8; number];
            let (mut rest, mut found) = (rows.as_slice(), Vec::new());
            while let Some((rows, more)) = next_rows(rest) {
                found.push(rows.len());
                rest = more;
            }
            assert_eq!(found, lengths);
        }
    }
}
