"""Parts of the documentation that are made from files: tables from published results, and the site itself."""
