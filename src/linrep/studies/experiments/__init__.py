"""The experiments L1 to L7 on real models: one file an experiment, composed by `linrep.studies.real_experiments`."""
