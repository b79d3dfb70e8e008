"""The page: `build` puts it together, a tab is one file in `tabs/`."""
