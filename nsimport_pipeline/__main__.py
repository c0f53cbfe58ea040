"""``python -m nsimport_pipeline`` is the same as ``nsimport``."""

from nsimport_pipeline.cli import main

if __name__ == "__main__":
    main()
