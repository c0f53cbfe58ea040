"""The commands of ``nsimport``: thin shells that read options, call the import or Dagster, and print."""
