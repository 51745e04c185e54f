/*M!999999\- enable the sandbox mode */ 
-- MariaDB dump 10.20-11.8.9-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: nova
-- ------------------------------------------------------
-- Server version	11.8.9-MariaDB-0+deb13u1 from Debian

/*!40101 SET @OLD_CHARACTER_SET_CLIENT=@@CHARACTER_SET_CLIENT */;
/*!40101 SET @OLD_CHARACTER_SET_RESULTS=@@CHARACTER_SET_RESULTS */;
/*!40101 SET @OLD_COLLATION_CONNECTION=@@COLLATION_CONNECTION */;
/*!40101 SET NAMES utf8mb4 */;
/*!40103 SET @OLD_TIME_ZONE=@@TIME_ZONE */;
/*!40103 SET TIME_ZONE='+00:00' */;
/*!40014 SET @OLD_UNIQUE_CHECKS=@@UNIQUE_CHECKS, UNIQUE_CHECKS=0 */;
/*!40014 SET @OLD_FOREIGN_KEY_CHECKS=@@FOREIGN_KEY_CHECKS, FOREIGN_KEY_CHECKS=0 */;
/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;
/*M!100616 SET @OLD_NOTE_VERBOSITY=@@NOTE_VERBOSITY, NOTE_VERBOSITY=0 */;

--
-- Table structure for table `fixed_ips`
--

DROP TABLE IF EXISTS `fixed_ips`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `fixed_ips` (
  `created_at` datetime DEFAULT NULL,
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `address` varchar(39) DEFAULT NULL,
  `network_id` int(11) DEFAULT NULL,
  `allocated` tinyint(1) DEFAULT NULL,
  `leased` tinyint(1) DEFAULT NULL,
  `reserved` tinyint(1) DEFAULT NULL,
  `virtual_interface_id` int(11) DEFAULT NULL,
  `host` varchar(255) DEFAULT NULL,
  `instance_uuid` varchar(36) DEFAULT NULL,
  `deleted` int(11) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=13 DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_uca1400_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `fixed_ips`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `fixed_ips` WRITE;
/*!40000 ALTER TABLE `fixed_ips` DISABLE KEYS */;
INSERT INTO `fixed_ips` VALUES
('2026-11-26 00:00:00',1,'10.0.0.0',1,0,0,1,NULL,NULL,NULL,0),
('2026-11-26 00:00:00',2,'10.0.0.1',1,0,0,1,NULL,NULL,NULL,0),
('2026-11-26 00:00:00',3,'10.0.0.2',1,0,0,1,NULL,NULL,NULL,0),
('2026-11-26 00:00:00',4,'10.0.0.3',1,1,0,0,NULL,'n1',NULL,0),
('2026-11-26 00:00:00',5,'10.0.0.4',1,1,0,0,NULL,'n2',NULL,0),
('2026-11-26 00:00:00',6,'10.0.0.5',1,1,1,0,1,NULL,'11111111-0000-4000-8000-000000000001',0),
('2026-11-26 00:00:00',7,'10.0.0.6',1,1,1,0,3,NULL,'11111111-0000-4000-8000-000000000002',0),
('2026-11-26 00:00:00',8,'10.0.0.7',1,0,0,0,NULL,NULL,NULL,0),
('2026-11-26 00:00:00',9,'10.0.0.9',1,0,0,1,NULL,NULL,NULL,0),
('2026-11-26 00:00:00',10,'10.0.0.255',1,0,0,1,NULL,NULL,NULL,0),
('2026-11-26 00:00:00',11,'10.0.0.8',1,1,1,0,5,NULL,'11111111-0000-4000-8000-000000000004',0),
('2026-11-26 00:00:00',12,'10.1.0.3',2,1,1,0,2,NULL,'11111111-0000-4000-8000-000000000001',0);
/*!40000 ALTER TABLE `fixed_ips` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
SET AUTOCOMMIT=@OLD_AUTOCOMMIT;

--
-- Table structure for table `floating_ips`
--

DROP TABLE IF EXISTS `floating_ips`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `floating_ips` (
  `created_at` datetime DEFAULT NULL,
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `address` varchar(39) DEFAULT NULL,
  `fixed_ip_id` int(11) DEFAULT NULL,
  `project_id` varchar(255) DEFAULT NULL,
  `host` varchar(255) DEFAULT NULL,
  `auto_assigned` tinyint(1) DEFAULT NULL,
  `pool` varchar(255) DEFAULT NULL,
  `interface` varchar(255) DEFAULT NULL,
  `deleted` int(11) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=6 DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_uca1400_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `floating_ips`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `floating_ips` WRITE;
/*!40000 ALTER TABLE `floating_ips` DISABLE KEYS */;
INSERT INTO `floating_ips` VALUES
('2026-11-26 00:00:00',1,'203.0.113.64',6,'p1','n1',0,'nova','eth0',0),
('2026-11-26 00:00:00',2,'203.0.113.65',NULL,'p1',NULL,0,'nova','eth0',0),
('2026-11-26 00:00:00',3,'203.0.113.66',NULL,NULL,NULL,0,'nova','eth0',0),
('2026-11-26 00:00:00',4,'203.0.113.80',NULL,NULL,NULL,0,'special','eth0',0),
('2026-11-26 00:00:00',5,'203.0.113.90',NULL,NULL,NULL,0,'nova','eth0',5);
/*!40000 ALTER TABLE `floating_ips` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
SET AUTOCOMMIT=@OLD_AUTOCOMMIT;

--
-- Table structure for table `instance_faults`
--

DROP TABLE IF EXISTS `instance_faults`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `instance_faults` (
  `id` int(11) DEFAULT NULL,
  `details` mediumtext DEFAULT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_uca1400_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `instance_faults`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `instance_faults` WRITE;
/*!40000 ALTER TABLE `instance_faults` DISABLE KEYS */;
INSERT INTO `instance_faults` VALUES
(1,'INSERT INTO `networks` VALUES (1);\n(broken');
/*!40000 ALTER TABLE `instance_faults` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
SET AUTOCOMMIT=@OLD_AUTOCOMMIT;

--
-- Table structure for table `instances`
--

DROP TABLE IF EXISTS `instances`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `instances` (
  `created_at` datetime DEFAULT NULL,
  `deleted_at` datetime DEFAULT NULL,
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `user_id` varchar(255) DEFAULT NULL,
  `project_id` varchar(255) DEFAULT NULL,
  `hostname` varchar(255) DEFAULT NULL,
  `host` varchar(255) DEFAULT NULL,
  `user_data` mediumtext DEFAULT NULL,
  `display_name` varchar(255) DEFAULT NULL,
  `uuid` varchar(36) DEFAULT NULL,
  `vm_state` varchar(255) DEFAULT NULL,
  `deleted` int(11) DEFAULT NULL,
  `weight` float DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_uca1400_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `instances`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `instances` WRITE;
/*!40000 ALTER TABLE `instances` DISABLE KEYS */;
INSERT INTO `instances` VALUES
('2026-11-26 00:00:00',NULL,1,'u','p1','web','n1','line one\nit\'s; \\ \"two\"	end','web \'1\', (the first)','11111111-0000-4000-8000-000000000001','active',0,1.5),
('2026-11-26 00:00:00',NULL,2,'u','p1','db','n2',NULL,'Datenbank größer','11111111-0000-4000-8000-000000000002','active',0,20),
('2026-11-26 00:00:00','2026-11-26 00:00:00',3,'u','p1','old','n2',NULL,'old','11111111-0000-4000-8000-000000000003','deleted',3,20),
('2026-11-26 00:00:00',NULL,4,'u','p2','lone','n9',NULL,'lone','11111111-0000-4000-8000-000000000004','stopped',0,20);
/*!40000 ALTER TABLE `instances` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
SET AUTOCOMMIT=@OLD_AUTOCOMMIT;

--
-- Table structure for table `networks`
--

DROP TABLE IF EXISTS `networks`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `networks` (
  `created_at` datetime DEFAULT NULL,
  `updated_at` datetime DEFAULT NULL,
  `deleted_at` datetime DEFAULT NULL,
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `injected` tinyint(1) DEFAULT NULL,
  `cidr` varchar(43) DEFAULT NULL,
  `netmask` varchar(39) DEFAULT NULL,
  `bridge` varchar(255) DEFAULT NULL,
  `gateway` varchar(39) DEFAULT NULL,
  `broadcast` varchar(39) DEFAULT NULL,
  `dns1` varchar(39) DEFAULT NULL,
  `vlan` int(11) DEFAULT NULL,
  `vpn_public_address` varchar(39) DEFAULT NULL,
  `vpn_public_port` int(11) DEFAULT NULL,
  `vpn_private_address` varchar(39) DEFAULT NULL,
  `dhcp_start` varchar(39) DEFAULT NULL,
  `project_id` varchar(255) DEFAULT NULL,
  `host` varchar(255) DEFAULT NULL,
  `cidr_v6` varchar(43) DEFAULT NULL,
  `gateway_v6` varchar(39) DEFAULT NULL,
  `label` varchar(255) DEFAULT NULL,
  `netmask_v6` varchar(39) DEFAULT NULL,
  `bridge_interface` varchar(255) DEFAULT NULL,
  `multi_host` tinyint(1) DEFAULT NULL,
  `dns2` varchar(39) DEFAULT NULL,
  `uuid` varchar(36) DEFAULT NULL,
  `priority` int(11) DEFAULT NULL,
  `rxtx_base` int(11) DEFAULT NULL,
  `deleted` int(11) DEFAULT NULL,
  `mtu` int(11) DEFAULT NULL,
  `dhcp_server` varchar(39) DEFAULT NULL,
  `enable_dhcp` tinyint(1) DEFAULT NULL,
  `share_address` tinyint(1) DEFAULT NULL,
  PRIMARY KEY (`id`),
  KEY `networks_host_idx` (`host`)
) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_uca1400_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `networks`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `networks` WRITE;
/*!40000 ALTER TABLE `networks` DISABLE KEYS */;
INSERT INTO `networks` VALUES
('2026-11-26 00:00:00',NULL,NULL,1,0,'10.0.0.0/24','255.255.255.0','br100','10.0.0.1','10.0.0.255','8.8.4.4',NULL,NULL,1000,'10.0.0.2','10.0.0.3',NULL,'net1','fd00:10::/64','fe80::1','private','64','eth1',1,NULL,'aef4991a-e92e-11f1-abc4-02fc00000001',NULL,0,0,1450,'10.0.0.1',1,0),
('2026-11-26 00:00:00',NULL,NULL,2,0,'10.1.0.0/24','255.255.255.0','br101','10.1.0.1','10.1.0.255','8.8.4.4',101,'192.0.2.7',1000,'10.1.0.2','10.1.0.3','p1',NULL,NULL,NULL,'vlan',NULL,'eth2',0,'8.8.8.8','aef4a62f-e92e-11f1-abc4-02fc00000001',NULL,0,0,NULL,NULL,1,0),
('2026-11-26 00:00:00',NULL,NULL,3,0,'10.2.0.0/24','255.255.255.0','br102','10.2.0.1','10.2.0.255',NULL,102,NULL,1000,'10.2.0.2','10.2.0.3',NULL,NULL,NULL,NULL,'vlan',NULL,'eth2',0,NULL,'aef4b3ad-e92e-11f1-abc4-02fc00000001',NULL,0,0,NULL,NULL,0,0),
('2026-11-26 00:00:00',NULL,'2026-11-26 00:00:00',4,0,'10.3.0.0/24','255.255.255.0','br103','10.3.0.1','10.3.0.255',NULL,103,NULL,1000,NULL,NULL,NULL,NULL,NULL,NULL,'gone',NULL,'eth2',0,NULL,'aef4b3fe-e92e-11f1-abc4-02fc00000001',NULL,0,4,NULL,NULL,1,0);
/*!40000 ALTER TABLE `networks` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
SET AUTOCOMMIT=@OLD_AUTOCOMMIT;

--
-- Table structure for table `security_group_instance_association`
--

DROP TABLE IF EXISTS `security_group_instance_association`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `security_group_instance_association` (
  `created_at` datetime DEFAULT NULL,
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `security_group_id` int(11) DEFAULT NULL,
  `instance_uuid` varchar(36) DEFAULT NULL,
  `deleted` int(11) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=6 DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_uca1400_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `security_group_instance_association`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `security_group_instance_association` WRITE;
/*!40000 ALTER TABLE `security_group_instance_association` DISABLE KEYS */;
INSERT INTO `security_group_instance_association` VALUES
('2026-11-26 00:00:00',1,1,'11111111-0000-4000-8000-000000000001',0),
('2026-11-26 00:00:00',2,2,'11111111-0000-4000-8000-000000000001',0),
('2026-11-26 00:00:00',3,1,'11111111-0000-4000-8000-000000000002',0),
('2026-11-26 00:00:00',4,3,'11111111-0000-4000-8000-000000000004',0),
('2026-11-26 00:00:00',5,2,'11111111-0000-4000-8000-000000000002',5);
/*!40000 ALTER TABLE `security_group_instance_association` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
SET AUTOCOMMIT=@OLD_AUTOCOMMIT;

--
-- Table structure for table `security_group_rules`
--

DROP TABLE IF EXISTS `security_group_rules`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `security_group_rules` (
  `created_at` datetime DEFAULT NULL,
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `parent_group_id` int(11) DEFAULT NULL,
  `protocol` varchar(255) DEFAULT NULL,
  `from_port` int(11) DEFAULT NULL,
  `to_port` int(11) DEFAULT NULL,
  `cidr` varchar(43) DEFAULT NULL,
  `group_id` int(11) DEFAULT NULL,
  `deleted` int(11) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=8 DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_uca1400_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `security_group_rules`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `security_group_rules` WRITE;
/*!40000 ALTER TABLE `security_group_rules` DISABLE KEYS */;
INSERT INTO `security_group_rules` VALUES
('2026-11-26 00:00:00',1,1,'icmp',-1,-1,'0.0.0.0/0',NULL,0),
('2026-11-26 00:00:00',2,1,'tcp',22,22,'198.51.100.7/32',NULL,0),
('2026-11-26 00:00:00',3,2,'TCP',80,443,'0.0.0.0/0',NULL,0),
('2026-11-26 00:00:00',4,2,'udp',1,65535,NULL,1,0),
('2026-11-26 00:00:00',5,2,'icmp',8,0,'::/0',NULL,0),
('2026-11-26 00:00:00',6,2,NULL,NULL,NULL,NULL,2,0),
('2026-11-26 00:00:00',7,2,'tcp',25,25,'0.0.0.0/0',NULL,7);
/*!40000 ALTER TABLE `security_group_rules` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
SET AUTOCOMMIT=@OLD_AUTOCOMMIT;

--
-- Table structure for table `security_groups`
--

DROP TABLE IF EXISTS `security_groups`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `security_groups` (
  `created_at` datetime DEFAULT NULL,
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `name` varchar(255) DEFAULT NULL,
  `description` varchar(255) DEFAULT NULL,
  `user_id` varchar(255) DEFAULT NULL,
  `project_id` varchar(255) DEFAULT NULL,
  `deleted` int(11) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=5 DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_uca1400_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `security_groups`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `security_groups` WRITE;
/*!40000 ALTER TABLE `security_groups` DISABLE KEYS */;
INSERT INTO `security_groups` VALUES
('2026-11-26 00:00:00',1,'default','default','u','p1',0),
('2026-11-26 00:00:00',2,'web','it\'s the web','u','p1',0),
('2026-11-26 00:00:00',3,'default','default','u','p2',0),
('2026-11-26 00:00:00',4,'gone','x','u','p1',4);
/*!40000 ALTER TABLE `security_groups` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
SET AUTOCOMMIT=@OLD_AUTOCOMMIT;

--
-- Table structure for table `virtual_interfaces`
--

DROP TABLE IF EXISTS `virtual_interfaces`;
/*!40101 SET @saved_cs_client     = @@character_set_client */;
/*!40101 SET character_set_client = utf8mb4 */;
CREATE TABLE `virtual_interfaces` (
  `created_at` datetime DEFAULT NULL,
  `id` int(11) NOT NULL AUTO_INCREMENT,
  `address` varchar(255) DEFAULT NULL,
  `network_id` int(11) DEFAULT NULL,
  `uuid` varchar(36) DEFAULT NULL,
  `instance_uuid` varchar(36) DEFAULT NULL,
  `deleted` int(11) DEFAULT NULL,
  `tag` varchar(255) DEFAULT NULL,
  PRIMARY KEY (`id`)
) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb3 COLLATE=utf8mb3_uca1400_ai_ci;
/*!40101 SET character_set_client = @saved_cs_client */;

--
-- Dumping data for table `virtual_interfaces`
--

SET @OLD_AUTOCOMMIT=@@AUTOCOMMIT, @@AUTOCOMMIT=0;
LOCK TABLES `virtual_interfaces` WRITE;
/*!40000 ALTER TABLE `virtual_interfaces` DISABLE KEYS */;
INSERT INTO `virtual_interfaces` VALUES
('2026-11-26 00:00:00',1,'FA:16:3e:00:00:01',1,'22212221-0000-4000-8000-000000000001','11111111-0000-4000-8000-000000000001',0,NULL),
('2026-11-26 00:00:00',2,'fa:16:3e:00:00:02',2,'22222222-0000-4000-8000-000000000001','11111111-0000-4000-8000-000000000001',0,NULL),
('2026-11-26 00:00:00',3,'fa:16:3e:00:00:03',1,'22232223-0000-4000-8000-000000000001','11111111-0000-4000-8000-000000000002',0,NULL),
('2026-11-26 00:00:00',4,'fa:16:3e:00:00:04',1,'22242224-0000-4000-8000-000000000001','11111111-0000-4000-8000-000000000003',4,NULL),
('2026-11-26 00:00:00',5,'fa:16:3e:00:00:05',1,'22252225-0000-4000-8000-000000000001','11111111-0000-4000-8000-000000000004',0,NULL),
('2026-11-26 00:00:00',6,'fa:16:3e:00:00:06',1,'22262226-0000-4000-8000-000000000001','11111111-0000-4000-8000-000000000004',0,NULL);
/*!40000 ALTER TABLE `virtual_interfaces` ENABLE KEYS */;
UNLOCK TABLES;
COMMIT;
SET AUTOCOMMIT=@OLD_AUTOCOMMIT;
/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;

/*!40101 SET SQL_MODE=@OLD_SQL_MODE */;
/*!40014 SET FOREIGN_KEY_CHECKS=@OLD_FOREIGN_KEY_CHECKS */;
/*!40014 SET UNIQUE_CHECKS=@OLD_UNIQUE_CHECKS */;
/*!40101 SET CHARACTER_SET_CLIENT=@OLD_CHARACTER_SET_CLIENT */;
/*!40101 SET CHARACTER_SET_RESULTS=@OLD_CHARACTER_SET_RESULTS */;
/*!40101 SET COLLATION_CONNECTION=@OLD_COLLATION_CONNECTION */;
/*M!100616 SET NOTE_VERBOSITY=@OLD_NOTE_VERBOSITY */;

-- Dump completed on 2026-11-26  0:16:54
