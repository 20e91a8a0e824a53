"""What report.py shows: figures of a table of embeddings, and the page that holds them."""
