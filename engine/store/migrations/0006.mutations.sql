-- What became of a write is asked by the id of its request. A hash: nothing is ever sorted by it.
create index events_mutation on events using hash ((request ->> 'mutation_id'));
