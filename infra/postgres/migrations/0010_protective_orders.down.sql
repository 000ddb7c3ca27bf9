ALTER TABLE order_verdicts DROP COLUMN stop_price, DROP COLUMN parent_order_id, DROP COLUMN leg;
ALTER TABLE order_events DROP COLUMN stop_price, DROP COLUMN parent_order_id, DROP COLUMN leg;
ALTER TABLE orders DROP COLUMN stop_price, DROP COLUMN parent_order_id, DROP COLUMN leg;
ALTER TABLE fills DROP COLUMN leg;
