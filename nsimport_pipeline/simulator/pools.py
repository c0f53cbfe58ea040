"""Words to make believable texts of, in several scripts and with the characters that break careless importers.

Belongs here: data only.
"""

FIRST_NAMES = (
    "Anna Björn Chloé Dieter Éloïse François Grzegorz Håkon Íris José Košťál Łukasz María Noël Özge Þóra Renée Søren "
    "Zoë Sinéad Анна Владимир Екатерина Сергей Ελένη Γιώργος Σοφία محمد فاطمة ليلى דוד שרה יעל 伟 芳 秀英 さくら 太郎 "
    "花子 민준 서연 지훈 प्रिया अर्जुन आरव สมชาย Nguyễn Aoife Mary-Jane John Wei Fatima Olu Kwame"
).split()

LAST_NAMES = (
    "Müller O'Brien D'Angelo Núñez Çelik Ångström Dvořák Łapiński Sørensen Großmann Lefèvre Ferreira-Gonçalves "
    "Иванов Петрова Кузнецов Παπαδόπουλος Νικολάου العربي حسن כהן לוי 王 李 张 佐藤 鈴木 高橋 김 이 박 शर्मा सिंह Smith "
    "Johnson Null McDonald van_der_Berg Ødegård Žižek Trần Okafor Mensah True"
).split()

COMPANIES = (
    "Acme|Müller & Söhne|O'Reilly Brothers|Société Générale d'Équipement|Ångström Lab|Grupo Peñarol|Wróbel i Synowie|"
    "ООО Ромашка|Завод «Прогресс»|Ελληνικά Τρόφιμα|شركة النور|חברת אור|北京科技|"
    "上海贸易有限公司|株式会社さくら|東京電機|"
    '한국상사|भारत ट्रेडर्स|Blue Ocean 🌊|🚀 Rocket Parts|Back\\slash Systems|"Quoted" Goods|Tab\tSeparated|100% Cotton|'
    "Smith, Jones; Partners|<b>Bold</b> Labs|Null|Zürich Präzision|Łódź Tekstylia|Nordlys Ærø|Café Ünïcödé|"
    " Leading Space|"
    "Trailing Space |Double  Space|ﬁne ligatures|ТОВ Київ|Ñandú Viajes|Curaçao Trading|Smörgås AB|Zero\u200bWidth|"
    "e\u0301 Combining|Family 👨‍👩‍👧‍👦 Store|Flag 🇧🇷 Import|Global Widgets|Western Supply|Northwind"
).split("|")

COMPANY_FORMS = "|Inc.|LLC|GmbH|S.A.|Ltd|K.K.|AB|Sp. z o.o.|ООО|有限公司|株式会社|Pty Ltd".split("|")

TEXTS = (
    "Deliver to the back door|Customer called; wants 10% off|Проверить адрес доставки|配達は午後のみ|请周五前发货|"
    "Bitte vor 12:00 Uhr liefern|Livré à l'étage|It's \"urgent\"|Path C:\\temp\\new|Line one\nline two|Tab\there|"
    "👍 paid|☎ call first|  padded  |NULL|null|N/A|-|0|<script>alert(1)</script>|'; DROP TABLE customers; --|%s %d {0}|"
    "توصيل سريع|משלוח מהיר|배송 전 연락|कृपया जल्दी भेजें|"
    "Παράδοση το πρωί|Ünïcödé — “smart quotes” … €£¥|𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈|"
    "A long note that goes on for a while, because somebody pasted a whole e-mail into the memo and nobody shortened it"
).split("|")

WORDS = (
    "alpha bravo café delta écho foxtrot größe hotel índigo juliet kilo lima mañana norte órgão papa québec romeo "
    "sierra tango über victor whisky xerxes yankee zürich ключ слово λέξη كلمة מילה 单词 言葉 단어 शब्द"
).split()

CITIES = (
    "San Mateo|München|São Paulo|Kraków|Malmö|Москва|Αθήνα|القاهرة|תל אביב|北京|東京|서울|मुंबई|"
    "Zürich|Reykjavík|Montréal|"
    "Saint-Denis|'s-Hertogenbosch|Winston-Salem|Łódź"
).split("|")

STREETS = (
    "Main St|Königstraße|Rue de l'Église|улица Ленина|中山路|丸の内|Gran Vía|"
    "Rynek Główny|شارع التحرير|רחוב הרצל|강남대로|"
    "महात्मा गांधी मार्ग|Λεωφόρος Αθηνών|Ångermannagatan"
).split("|")

COUNTRIES = "US DE BR PL SE RU GR EG IL CN JP KR IN CH IS CA FR NL GB AU".split()

STATES = "CA NY TX WA ON QC NSW BY SP MH".split()

CURRENCIES = (
    ("US Dollar", "USD", "$"),
    ("Euro", "EUR", "€"),
    ("British pound", "GBP", "£"),
    ("Japanese Yen", "JPY", "¥"),
    ("Canadian Dollar", "CAD", "$"),
    ("Złoty", "PLN", "zł"),
    ("Indian Rupee", "INR", "₹"),
    ("Brazilian Real", "BRL", "R$"),
    ("Swedish Krona", "SEK", "kr"),
    ("Kuwaiti Dinar", "KWD", "د.ك"),
)

LISTS: dict[str, tuple[str, ...]] = {
    "accountingperiod": (),
    "classification": ("Retail", "Wholesale", "Großkunden", "Опт", "卸売", "Public sector", "R&D"),
    "department": ("Sales", "Vertrieb", "Marketing", "Финансы", "製造部", "IT", "Human Resources", "Logística"),
    "location": (
        "San Mateo Warehouse",
        "Lager München",
        "Dépôt Lyon",
        "Склад Москва",
        "東京倉庫",
        "북쪽 창고",
        "Almacén Norte",
    ),
    "pricelevel": ("Base Price", "Wholesale", "Online Price", "Employee", "Stammkunde", "VIP ⭐", "Распродажа"),
    "subsidiary": (
        "Honeycomb Mfg.",
        "Honeycomb Deutschland GmbH",
        "Honeycomb 日本",
        "Honeycomb France S.A.",
        "Honeycomb São Paulo",
    ),
    "chargetype": ("Fixed Date", "Milestone", "Project Progress", "Time-Based", "Expense-Based", "Purchase"),
}
"""Names for the rows of NetSuite's small lists."""

STATUS_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "SalesOrd": (
        ("A", "Sales Order : Pending Approval"),
        ("B", "Sales Order : Pending Fulfillment"),
        ("C", "Sales Order : Cancelled"),
        ("D", "Sales Order : Partially Fulfilled"),
        ("E", "Sales Order : Pending Billing/Partially Fulfilled"),
        ("F", "Sales Order : Pending Billing"),
        ("G", "Sales Order : Billed"),
        ("H", "Sales Order : Closed"),
    ),
    "CustInvc": (("A", "Invoice : Open"), ("B", "Invoice : Paid In Full")),
    "ItemShip": (
        ("A", "Item Fulfillment : Picked"),
        ("B", "Item Fulfillment : Packed"),
        ("C", "Item Fulfillment : Shipped"),
    ),
    "Opprtnty": (
        ("A", "Opportunity : In Progress"),
        ("B", "Opportunity : Issued Estimate"),
        ("C", "Opportunity : Closed - Won"),
        ("D", "Opportunity : Closed - Lost"),
    ),
}
"""Codes of ``transaction.status`` and what ``BUILTIN.DF`` shows for them, by ``transaction.type``."""

CODED_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "billingstatus": (("A", "Unbilled"), ("B", "Partially billed"), ("C", "Billed")),
    "approvalstatus": (("1", "Pending Approval"), ("2", "Approved"), ("3", "Rejected")),
    "stage": (
        ("NON_BILLABLE", "Non-Billable"),
        ("READY_FOR_BILLING", "Ready for Billing"),
        ("HOLD_FOR_BILLING", "Hold for Billing"),
    ),
    "use": (("Actual", "Actual"), ("Forecast", "Forecast")),
    "searchstage": (("Customer", "Customer"), ("Lead", "Lead"), ("Prospect", "Prospect")),
    "itemtype": (
        ("InvtPart", "Inventory Item"),
        ("NonInvtPart", "Non-inventory Item"),
        ("Service", "Service"),
        ("Kit", "Kit/Package"),
        ("Assembly", "Assembly/Bill of Materials"),
        ("OthCharge", "Other Charge"),
        ("Discount", "Discount"),
        ("Markup", "Markup"),
        ("Payment", "Payment"),
        ("Subtotal", "Subtotal"),
        ("Description", "Description"),
    ),
    "type": (
        ("SalesOrd", "Sales Order"),
        ("CustInvc", "Invoice"),
        ("ItemShip", "Item Fulfillment"),
        ("Opprtnty", "Opportunity"),
    ),
}
"""Coded columns by name: stored code and display text."""
