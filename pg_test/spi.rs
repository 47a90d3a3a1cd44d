//! Statements whose plans are kept: the right one each time, however many there are.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server::support::run;
    use crate::pg::ffi::spi::{self, Mode, Row, args};
    use pgrx::prelude::*;

    fn number(row: &Row) -> i64 {
        row.or_default(1)
    }

    #[pg_test]
    fn spi_keeps_the_right_plan_for_each_statement() {
        for round in 0..3_i64 {
            for i in 0..100_i64 {
                let sql = format!("SELECT {i} * 1000 + $1");
                assert_eq!(spi::kept(&sql, args![round], Mode::Write, number), [i * 1000 + round]);
            }
        }
        // One text, other types.
        assert_eq!(spi::kept("SELECT length($1)::bigint", args!["three".to_string()], Mode::Write, number), [5]);
        assert_eq!(spi::kept("SELECT length($1)::bigint", args![vec![1_u8, 2]], Mode::Write, number), [2]);
    }

    #[pg_test]
    fn spi_plans_a_kept_statement_anew_when_its_table_is_another() {
        const SQL: &str = "SELECT n::bigint FROM planned WHERE n = ANY ($1)";
        for _ in 0..2 {
            run("CREATE TABLE planned (n bigint PRIMARY KEY); INSERT INTO planned SELECT generate_series(1, 10)");
            assert_eq!(spi::kept(SQL, args![vec![7_i64, 70]], Mode::Write, number), [7]);
            run("DROP INDEX IF EXISTS other; ALTER TABLE planned DROP CONSTRAINT planned_pkey");
            assert_eq!(spi::kept(SQL, args![vec![8_i64]], Mode::Write, number), [8]);
            run("DROP TABLE planned");
        }
    }

    /// So many that the plan of the one whose rows are read is given up meanwhile.
    #[pg_test]
    fn spi_reads_rows_while_other_kept_statements_run() {
        let all = spi::kept("SELECT i FROM generate_series(1::bigint, $1) i", args![5_i64], Mode::Write, |row| {
            (0..100).for_each(|i| drop(spi::kept(&format!("SELECT {i}::bigint"), &[], Mode::Write, number)));
            number(row)
        });
        assert_eq!(all, [1, 2, 3, 4, 5]);
    }
}
