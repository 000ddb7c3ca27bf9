DROP INDEX fills_reversed;
ALTER TABLE fills DROP COLUMN reverses;
ALTER TABLE order_events DROP COLUMN amend_id, DROP COLUMN pending_quantity, DROP COLUMN pending_price;
ALTER TABLE order_verdicts DROP COLUMN amends;
