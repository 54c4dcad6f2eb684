-- Notices that wait for the business hours of their receiver.

alter table deliveries add column held_until_ms bigint;
comment on column deliveries.held_until_ms is 'When the receiver''s hours begin, or it was let go; null: it never waited for them';
create index deliveries_held on deliveries (incident) where state = 'waiting' and held_until_ms is not null;
