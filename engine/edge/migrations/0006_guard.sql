-- Four-eyes approvals, and what a command repairs (design: Safety 3, 4).

-- `people` must agree; `yes_by` are the names of those who have, in their order. One no is enough.
alter table approvals
    add column people int    not null default 1 check (people in (1, 2)),
    add column yes_by text[] not null default '{}';
update approvals set yes_by = array[decided_by] where state = 'approved';
alter table approvals add check (state <> 'approved' or cardinality(yes_by) >= people);

-- Which repair a command is, whichever incident it is for: a target that needs the same one again and again flaps.
alter table commands add column repair text not null default '';
