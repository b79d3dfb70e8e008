"""One file a tab: `build(studio)` and handlers that know no widget."""
