drop index events_mutation;
