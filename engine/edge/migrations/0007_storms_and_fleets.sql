-- What fails at the same time, and what was acted on of a fleet (design: Safety 4).

-- When the newest alert of an incident began to fire, by the responder's clock.
alter table incidents add column fired_ms bigint not null default 0;
update incidents set fired_ms = opened_ms;
create index incidents_fired on incidents (fired_ms);

-- The fleet that a plan belongs to, by name.
create index claims_of_fleet on claims ((plan -> 'fleet' ->> 'name'), claimed_ms)
    where plan -> 'fleet' ->> 'name' is not null;
