"""The books that a new catalog has."""

from sqlalchemy.dialects.sqlite import insert

from catalog.store import BOOKS
from kit import Transaction

# id, title, authors, year, price in cents
SEED = (
    (1, "Structure and Interpretation of Computer Programs", ["Harold Abelson", "Gerald Jay Sussman"], 1985, 6900),
    (2, "The Mythical Man-Month", ["Frederick P. Brooks Jr."], 1975, 3499),
    (3, "A Pattern Language", ["Christopher Alexander", "Sara Ishikawa", "Murray Silverstein"], 1977, 5600),
    (4, "Moby-Dick", ["Herman Melville"], 1851, 1250),
    (5, "Middlemarch", ["George Eliot"], 1871, 1399),
    (6, "The Left Hand of Darkness", ["Ursula K. Le Guin"], 1969, 1199),
    (7, "One Hundred Years of Solitude", ["Gabriel García Márquez"], 1967, 1499),
    (8, "Things Fall Apart", ["Chinua Achebe"], 1958, 1099),
    (9, "The Tale of Genji", ["Murasaki Shikibu"], 1008, 3200),
    (10, "Invisible Cities", ["Italo Calvino"], 1972, 1350),
    (11, "The Master and Margarita", ["Mikhail Bulgakov"], 1967, 1450),
    (12, "Beloved", ["Toni Morrison"], 1987, 1299),
    (13, "Ficciones", ["Jorge Luis Borges"], 1944, 24900),
    (14, "The Trial", ["Franz Kafka"], 1925, 950),
    (15, "To the Lighthouse", ["Virginia Woolf"], 1927, 1050),
    (16, "Solaris", ["Stanisław Lem"], 1961, 1150),
    (17, "Frankenstein", ["Mary Shelley"], 1818, 899),
    (18, "The Three-Body Problem", ["Cixin Liu"], 2008, 1299),
    (19, "The Old Man and the Sea", ["Ernest Hemingway"], 1952, 1100),
    (20, "The Odyssey", ["Homer"], -700, 1600),
    (42, "The Hitchhiker's Guide to the Galaxy", ["Douglas Adams"], 1979, 1299),
)


async def seed(transaction: Transaction) -> None:
    """Adds those that are missing; leaves books alone that are there, with whatever price they have by now."""
    fields = ("id", "title", "authors", "year", "price")
    rows = [{**dict(zip(fields, book, strict=True)), "currency": "EUR"} for book in SEED]
    await transaction.execute(insert(BOOKS).on_conflict_do_nothing(), rows)
